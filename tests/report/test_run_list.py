"""The list of runs, and names of runs."""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict

import pytest
from analytic import Analytic

from evorec.cli import main
from evorec.config import RunConfig, SearchConfig
from evorec.errors import ConfigError, Interruption
from evorec.report.run_list import list_runs
from evorec.run.atomic import sealed_bytes
from evorec.run.directory import RunDirectory, find_run
from evorec.search.engine import search


def searched(root, seed, *, stop_after=None, generations=2):
    config = RunConfig(
        problem="analytic", search=SearchConfig(surrogate="none", population=4, generations=generations, seed=seed)
    )
    with RunDirectory.create(root, config=config, fingerprint=config.fingerprint("data"), environment={}) as run:
        stops = iter([False] * (stop_after or 0))
        with suppress(Interruption):
            search(Analytic(), config.search, run=run, chunk=2, stop=stop_after and (lambda: next(stops, True)))
        return run.path


def test_runs_are_listed_with_their_state(tmp_path, capsys):
    finished, interrupted = searched(tmp_path, 1), searched(tmp_path, 2, stop_after=3)
    finalized, running = searched(tmp_path, 3), searched(tmp_path, 4)
    with RunDirectory.open(finalized) as run:
        run.write_final({"opened_at": "", "seeds": [1], "picks": [], "baselines": {}})
        run.rename("nightly")
    with RunDirectory.open(running):
        listed = {run.folder: run for run in list_runs(tmp_path)}
    states = {path.name: listed[path.name].state for path in (finished, interrupted, finalized, running)}
    assert list(states.values()) == ["finished", "interrupted", "finalized", "running"]
    assert listed[finalized.name].name == "nightly"
    found = listed[finished.name]
    assert (found.problem, found.evaluations, found.fault) == ("analytic", 8, None)
    with RunDirectory.open(finished, read_only=True) as run:
        assert found.hypervolume == run.read_summary()["hypervolume_share"][-1]
    assert listed[interrupted.name].evaluations < 8
    assert main(["runs", str(tmp_path), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["folder"] for row in rows] == sorted(states)
    assert main(["runs", str(tmp_path)]) == 0
    assert "nightly" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "none")]) == ConfigError.exit_code


def test_a_hostile_folder_is_listed_without_running_anything_in_it(tmp_path, capsys):
    good = searched(tmp_path, 1)
    before = asdict(list_runs(tmp_path)[0])
    marker = tmp_path / "executed"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')")

    def plugin(path):
        config = json.loads((path / "config.json").read_text())
        del config["sha256"]
        (path / "config.json").write_bytes(sealed_bytes({**config, "plugins": [str(tmp_path / "evil.py")]}))

    wrong = sealed_bytes({"objectives": 5, "constraints": 0, "baselines": 0})
    damages = {
        "cut": lambda path: (path / "ledger.sqlite").write_bytes(b"x" * 5000),
        "deep": lambda path: (path / "manifest.json").write_text("[" * 100_000),
        "fifo": lambda path: ((path / "summary.json").unlink(), os.mkfifo(path / "summary.json")),
        "folder": lambda path: (path / "final.json").mkdir(),
        "gone": lambda path: (path / "ledger.sqlite").unlink(),
        "huge": lambda path: os.truncate(path / "summary.json", 2**40),
        "link": lambda path: (path / "fusion").symlink_to("/"),
        "list": lambda path: (path / "problem.json").write_bytes(wrong),
        "loop": lambda path: (path / "loop").symlink_to(path),
        "name": lambda path: (path / "name.json").write_text("{"),
    }
    for name, damage in damages.items():
        shutil.copytree(good, tmp_path / name)
        if name == "list":
            (tmp_path / name / "summary.json").unlink()
        damage(tmp_path / name)
    shutil.copytree(good, tmp_path / "plugin")
    plugin(tmp_path / "plugin")
    (tmp_path / "no run").mkdir()
    (tmp_path / "self").symlink_to(tmp_path)
    (tmp_path / os.fsdecode(b"\xff\x1b[31m")).mkdir()
    found = {run.folder: run for run in list_runs(tmp_path)}
    assert {name for name, run in found.items() if run.state == "damaged"} == set(damages)
    assert all(found[name].fault for name in damages)
    assert found["plugin"].state == "finished"
    assert not marker.exists()
    assert asdict(found[good.name]) == before
    for form in ("table", "json"):
        assert main(["runs", str(tmp_path), "--format", form]) == 0
    assert "link is damaged" in capsys.readouterr().err


def test_a_run_is_addressed_by_its_name_which_is_unique(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, second = searched(tmp_path / "runs", 1), searched(tmp_path / "runs", 2)
    with RunDirectory.open(first) as run:
        for wrong in ("", "a/b", "..", "-x", "x" * 70, first.name + "!"):
            with pytest.raises(ConfigError, match="--name must be"):
                run.rename(wrong)
        with pytest.raises(ConfigError, match=f"--name {second.name} is that of"):
            run.rename(second.name)
        run.rename("weekly")
        run.rename("nightly")
        assert run.name == "nightly"
    with RunDirectory.open(second) as run, pytest.raises(ConfigError, match=f"is that of .*{first.name}"):
        run.rename("nightly")
    for text in ("nightly", "runs/nightly", str(tmp_path / "runs" / "nightly")):
        assert main(["front", text, "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["name"] == "nightly"
    assert find_run(tmp_path / "weekly") == tmp_path / "weekly"
    assert main(["report", "nightly"]) == 0
    assert "nightly" in (first / "report.html").read_text()
