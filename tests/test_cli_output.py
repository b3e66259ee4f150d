"""What a command prints around its result."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evorec.cli.output import Format, Output


@pytest.mark.parametrize(
    ("script", "path", "expected"),
    [
        (".venv/bin/evorec", "", "next: .venv/bin/evorec front runs/x"),  # as `make search` runs it
        ("my env/bin/evorec", "", "next: 'my env/bin/evorec' front runs/x"),
        (".venv/bin/evorec", ".venv/bin", "next: evorec front runs/x"),
        ("pytest", "", "next: evorec front runs/x"),
    ],
)
def test_the_next_command_works_as_typed_whether_or_not_evorec_is_on_the_path(
    script: str,
    path: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = tmp_path / ".venv" / "bin" / "evorec"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(sys, "argv", [script])
    Output(Format.TABLE, 0).next_step("evorec front runs/x")
    assert capsys.readouterr().err.strip() == expected
