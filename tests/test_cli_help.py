"""The command line helps: examples that are valid, completion, no colour where none is wanted, and a doctor."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections import namedtuple
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer

from evorec.cli import doctor, main
from evorec.cli.app import COMMANDS, application, complete_pick, complete_run
from evorec.cli.doctor import EXTRAS

ROOT = Path(__file__).parents[1]
WIDTH = 76
"""Letters of an example on a terminal of 80 columns, with a prompt and margins."""


def parse(line: str) -> None:
    command: Any = typer.main.get_command(application())  # newer versions of typer bring a click of their own
    program, *words = shlex.split(line.partition(" > ")[0])
    context = command.make_context(program, list(words))
    while hasattr(command, "resolve_command"):
        name, found, words = command.resolve_command(context, words)
        assert found is not None, line
        command, context = found, found.make_context(name, list(words), parent=context)


def test_every_command_has_examples_that_are_valid_and_shown_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert [name for name, entry in COMMANDS.items() if not entry.examples] == []
    for name, entry in COMMANDS.items():
        assert main([*name.split(), "--help"]) == 0
        shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
        for line in entry.examples:
            assert line.startswith(f"evorec {name}"), line
            assert len(line) <= WIDTH, line
            assert f"$ {line}" in shown
            parse(line)


def test_every_command_and_option_says_what_it_does() -> None:
    root: Any = typer.main.get_command(application())
    for name in COMMANDS:
        command = root
        for word in name.split():
            command = command.commands[word]
        assert command.help.split("\n\n")[0].rstrip().endswith((".", "?")), name
        assert [option.name for option in command.params if not option.help] == [], name


def test_help_has_no_colour_in_a_pipe_or_with_no_color(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["front", "--help"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    command = [sys.executable, "-m", "evorec", "runs", "nowhere"]
    variables = {**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=600, check=False)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr


def test_runs_members_and_problems_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = ("search.generations=1", "search.population=4", "search.surrogate=none")
    words = [word for text in few for word in ("--set", text)]
    assert main(["search", "-p", "analytic", "-q", "--name", "friday", *words]) == 0
    (run,) = Path("runs").glob("analytic-*")
    Path("runs/other").mkdir()
    assert complete_run("runs/") == [str(run)]
    assert complete_run("fri") == ["friday"]
    assert complete_run("zzz") == []
    context = typer.Context(typer.main.get_command(application()))  # type: ignore[arg-type]
    assert complete_pick(context, "k") == ["knee"]
    context.params["run"] = Path("friday")
    found = complete_pick(context, "")
    assert {"knee", "quality", "cost"} < {*found}
    assert {path.name for path in (run / "archive").iterdir() if path.name != ".staged"} < {*found}
    variables = {
        **os.environ, "_EVOREC_COMPLETE": "complete_bash", "COMP_WORDS": "evorec search -p analyt", "COMP_CWORD": "3",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-m", "evorec"]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=600, check=True)
    assert done.stdout.split() == ["analytic"]


def test_a_doctor_finds_nothing_wrong_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--format", "json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["broken"] == 0
    assert {finding["name"] for finding in value["findings"]} >= {"libraries", "sqlite", "locks", "memory", "gpu"}
    assert value["machine"]["devices"][0]["device"] == "cpu"
    assert value["versions"]["torch"] == metadata.version("torch")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert declared.keys() - {"dev", "test"} <= EXTRAS.keys()


def test_a_doctor_names_what_is_broken_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10, 9, 1))
    needed = ["numpy>=99", "a-library-of-nobody>=1", 'b-library>=2; extra == "serve"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needed)
    assert main(["doctor", "--runs", str(tmp_path / "new"), "--format", "json"]) == 1
    value = json.loads(capsys.readouterr().out)
    broken = {found["name"]: found for found in value["findings"] if found["state"] == "broken"}
    assert broken.keys() == {"numpy", "a-library-of-nobody", "disk of runs", "disk of temporary files"}
    assert "and evorec needs >=99" in broken["numpy"]["text"]
    assert broken["a-library-of-nobody"]["text"] == "is not installed"
    assert all(found["advice"] for found in broken.values())
    (serve,) = [extra for extra in value["extras"] if extra["extra"] == "serve"]
    assert (serve["missing"], serve["install"]) == (["b-library"], "pip install 'evorec[serve]'")
    assert list(tmp_path.iterdir()) == []
