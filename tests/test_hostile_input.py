"""Whatever a stranger's arguments, files and names hold, a command answers with words that a terminal can show."""

import random
from pathlib import Path

import pytest

from evorec.cli import main

TEXTS = (
    "", "\x1b[2J", "a\nb", "\x00", "\u202e\x9b", "\ud800", "\udcff", "[red]x[/]", "-", "é" * 300, "x" * 5000, "..",
    "/dev/full", "junk", "folder", "deep.toml", "nan", "9" * 400, "[" * 2000, "a=b", "=", "'", "`id`", "{x}%s", "*[?",
    "~nobody/x", "best:x,", "quality where", "9**9**9", "(" * 300, "not " * 3000,
)  # fmt: skip
KEYS = (
    "search.population", "search.options", "constraints", "box", "plugins", "run.executor", "space.effort", "problem",
)  # fmt: skip
N_COMMANDS, N_SETTINGS = 4, 20
"""Drawn commands for each text, and drawn pairs of a setting and a text: a few seconds."""
SMALL = ["--set", "search.population=4", "--set", "search.generations=1", "--set", "search.surrogate=none"]


def test_no_input_ends_in_a_traceback_or_reaches_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", "-p", "analytic", "-q", *SMALL]) == 0
    (run,) = map(str, Path("runs").glob("*-*"))
    rng = random.Random(0)
    Path("junk").write_bytes(rng.randbytes(500))
    Path("deep.toml").write_text("x = " + "[" * 3000)
    Path("folder").mkdir()
    commands = [["validate", "/dev/full"], ["validate", "-p", "analytic", "--set", f"box={'[' * 2000}"]]
    for text in TEXTS:
        own = [
            ["front", text], ["front", run, "--sort", text], ["report", text], ["report", run, "--out", text],
            ["validate", text], ["validate", "-p", text], ["problems", text], ["explain", run, text],
            ["export", run, text], ["recommend", text, "--user", text], ["data", "describe", text], [text],
            ["front", run, "--format", text], ["validate", "-p", "analytic", "--set", text],
            ["finalize", text], ["finalize", run, "--pick", text], ["fuse", text, text], ["fuse", run, text],
            ["serve", text], ["serve", run, "--root-path", text], ["serve", run, "--max-body", text],
        ]  # fmt: skip
        commands += rng.sample(own, N_COMMANDS)
    for _ in range(N_SETTINGS):
        setting = f"{rng.choice(KEYS)}={rng.choice(TEXTS)}"
        commands.append(["validate", "-p", "analytic", "--no-data", "--set", setting])
    capsys.readouterr()
    for command in commands:
        code = main(command)  # an error that is not explained is raised here
        shown = "".join(capsys.readouterr())
        assert code in (0, 2, 3), command
        assert all(letter.isprintable() or letter in "\n\t" for letter in shown), (command, shown[:300])
    assert {path.name for path in tmp_path.iterdir()} >= {"junk", "deep.toml", "folder", "runs"}
