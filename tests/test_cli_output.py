"""What a command prints around its result."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from evorec.cli.output import Format, Output
from evorec.report.table import Column, Row, Table


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


def test_control_characters_of_ids_and_titles_are_shown_and_never_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile, shown = "[red]a\x1b[2J\x9b1m\r\x7f\u202eb\ud800", r"[red]a\u001b[2J\u009b1m\u000d\u007f\u202eb\ud800"
    table = Table(hostile, hostile, (Column(hostile),), (Row(hostile, (hostile,)), Row("", (1,))))
    output = Output(Format.TABLE, 0)
    output.result_console.width = 200
    output.note(hostile)
    output.next_step(hostile)
    output.result(None, table, heading=hostile, text=hostile)
    captured = capsys.readouterr()
    assert (captured.err.count(shown), captured.out.count(shown)) == (2, 7)
    assert (captured.out + captured.err).replace("\n", "").isprintable()
    Output(Format.JSON, 0).result({hostile: [hostile, "line\nfeed"]})
    text = capsys.readouterr().out
    assert json.loads(text) == {hostile: [hostile, "line\nfeed"]}
    assert text.replace("\n", "").isprintable()
