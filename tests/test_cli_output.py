"""What a command prints around its result."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evorec.cli.output import Format, Output
from evorec.report.table import Column, Row, Table

UTF_8 = {"LC_ALL": "C.UTF-8"}


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
    Output(Format.TABLE, 0).next_step("evorec", "front", Path("runs/x"))
    assert capsys.readouterr().err.strip() == expected


@pytest.mark.parametrize(("has_lines", "n_lines", "escapes"), [(False, 2, 2), (True, 3, 0)])
def test_only_tables_of_our_own_texts_have_values_of_several_lines(
    has_lines: bool, n_lines: int, escapes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table("", "pick", (Column("recall"),), (Row("best\nknee", ("0.1\n± 0.2",)),), has_lines=has_lines)
    Output(Format.TABLE, 0).result(None, table)
    out = capsys.readouterr().out
    assert (len(out.splitlines()), out.count("\\n")) == (n_lines, escapes)


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


class Terminal(io.TextIOWrapper):
    """A stream with an encoding, and the text that it has got."""

    def __init__(self, encoding: str) -> None:
        self.got = io.BytesIO()
        super().__init__(self.got, encoding=encoding)

    def lines(self) -> list[str]:
        self.flush()
        return self.got.getvalue().decode(self.encoding).splitlines()


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", ["A – B", "μ±é  quality ↑  €", "é        0.5000  –", "0.5 …", "→ é"]),
        ("cp1252", ["A – B", r"\u03bc±é  quality ^  €", "é             0.5000  –", "0.5 …", "-> é"]),
        ("latin-1", ["A - B", r"\u03bc±é  quality ^  \u20ac", "é             0.5000  -", "0.5 ...", "-> é"]),
        ("ascii", ["A - B", r"\u03bc+-\xe9  quality ^  \u20ac", r"\xe9             0.5000  -", "0.5 ...", r"-> \xe9"]),
    ],
)
def test_an_output_gets_only_letters_of_its_encoding(
    encoding: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = Terminal(encoding), Terminal(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    columns = (Column("quality", direction="max"), Column("€"))
    table = Table("A – B", "μ±é", columns, (Row("é", (0.5, None), "member"),))
    output = Output()
    output.result(None, table, text="0.5 …")
    output.note("→ é")
    assert [" ".join(line.split()) for line in (*out.lines(), *err.lines())] == [" ".join(x.split()) for x in expected]
    Output(Format.JSON).result({"é": "→"})
    assert json.loads("".join(out.lines()[4:])) == {"é": "→"}


def test_a_printed_command_can_be_pasted_into_a_narrow_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    words = [
        "plain",
        "two words",
        "it's",
        "a'b\\c\n\x1b[2J",
        "[x]*?$HOME`id`",
        "é…",
        os.fsdecode(b"\xff\x85"),
        "k" * 60,
        "",
    ]
    for encoding in ("utf-8", "ascii"):
        err = Terminal(encoding)
        monkeypatch.setattr(sys, "stderr", err)
        Output().next_step("printf", "%s\\0", *words)
        (line,) = err.lines()
        typed = subprocess.run(["bash", "-c", line.removeprefix("next: ")], capture_output=True, env=UTF_8, check=True)
        assert typed.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]


def test_a_key_is_neither_cut_nor_broken_in_a_narrow_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    columns = tuple(Column(f"metric{i}", direction="max") for i in range(4))
    Output().result(None, Table("Front", "member", columns, (Row("0123456789abcdef", (0.25,) * 4, "member"),)))
    assert capsys.readouterr().out.splitlines()[-1].split() == ["0123456789abcdef", *["0.2500"] * 4]
