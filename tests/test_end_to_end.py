"""The command line as people use it: processes that start, are killed, go on, and write the same every time."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from evorec.errors import RunError
from evorec.run.directory import RunDirectory
from evorec.run.ledger import Ledger

ROOT = Path(__file__).parents[1]
STARTUP_S = 600.0  # a Python process that imports torch and searches, on a busy machine
N_GENOMES = 32
ATTEMPTS = 20
CONFIG = """
problem = "feed"
constraints = []
data.simulator = { n_users = 60, n_items = 50, n_interactions = 2400 }
training = { steps = 9, rungs = [3], rung_keep = 0.75, batch_size = 64, retrieval_batch = 32, layers = 2 }
evaluation = { k = 5, candidates = 12, max_users = 20 }
search = { population = 8, generations = 4, seed = 11, memory = "none" }
finalize = { picks = ["knee", "accuracy"], seeds = 1, bootstrap = 200 }
run = { device = "cpu", chunk = 2 }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("work")
    (path / "feed.toml").write_text(CONFIG)
    return path


def start(folder: Path, *arguments: str, hash_seed: int = 0) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "evorec", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def search(folder: Path, output: str, *, workers: int, hash_seed: int) -> subprocess.Popen[str]:
    settings = ["--set", f"run.output={output}", "--set", f"run.workers={workers}"]
    return start(folder, "search", "feed.toml", *settings, "--format", "json", hash_seed=hash_seed)


def finished(process: subprocess.Popen[str]) -> tuple[Any, str]:
    """The JSON that a command wrote, and what it said beside, once it has ended well."""
    out, err = process.communicate(timeout=STARTUP_S)
    assert process.returncode == 0, err
    return json.loads(out), err


def only_run(folder: Path, output: str) -> Path:
    (path,) = (folder / output).iterdir()
    return path


@pytest.fixture(scope="module")
def twins(folder: Path) -> dict[str, Any]:
    """What two processes said that searched the same at the same time: one worker and two, other hash seeds."""
    processes = {
        output: search(folder, output, workers=workers, hash_seed=seed)
        for output, workers, seed in (("one", 1, 1), ("two", 2, 4242))
    }
    return {output: finished(process)[0] for output, process in processes.items()}


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """A row of the ledger or a member without the two fields in which equal runs differ."""
    metrics = {name: value for name, value in record["metrics"].items() if name != "train_seconds"}
    return {**record, "metrics": metrics, "seconds": None}


def left_behind(run: Path) -> dict[str, Any]:
    """All that a run leaves behind, without times: rows of the ledger, and files by name."""
    with RunDirectory.open(run, read_only=True) as opened:
        found: dict[str, Any] = {"rows": [timeless(asdict(row)) for row in opened.ledger.evaluations()]}
    for file in run.rglob("*"):
        name = str(file.relative_to(run))
        if not file.is_file() or name.startswith("ledger.sqlite") or name in ("lock", "log.jsonl", "config.json"):
            continue
        found[name] = timeless(json.loads(file.read_bytes())) if file.name == "member.json" else file.read_bytes()
    return found


def test_two_processes_with_other_workers_and_hash_seeds_leave_identical_runs(
    folder: Path, twins: dict[str, Any]
) -> None:
    one, two = (left_behind(only_run(folder, output)) for output in ("one", "two"))
    assert one == two
    assert len(one["rows"]) == N_GENOMES
    assert {row["rung"] for row in one["rows"]} == {3, None}, "the rung dropped no genome, or everybody"
    members = json.loads(one["summary.json"])["members"]
    assert {name for name in one if name.startswith("archive/")} == {
        f"archive/{key}/{name}" for key in members for name in ("member.json", "weights.safetensors")
    }
    assert {row["member"] for row in twins["one"]["front"] if row["kind"] == "member"} == set(members)


def test_two_processes_say_the_same(folder: Path, twins: dict[str, Any]) -> None:
    different = ("run", "energy")  # the folder, and what was measured
    one, two = ({name: value for name, value in said.items() if name not in different} for said in twins.values())
    assert one == two
    assert twins["one"]["run"] == f"one/{only_run(folder, 'one').name}"


def test_the_front_is_read_back_as_json(folder: Path, twins: dict[str, Any]) -> None:
    said, err = finished(start(folder, "front", twins["one"]["run"], "--format", "json", hash_seed=3))
    assert said == {**twins["one"], "state": "4 generations done"}
    assert {row["kind"] for row in said["front"]} == {"member", "baseline"}
    assert "Traceback" not in err


def n_rows(output: Path) -> int:
    try:
        return sum(len(Ledger(path, read_only=True).evaluations()) for path in output.glob("*/ledger.sqlite"))
    except RunError:  # it is being made
        return 0


def killed_in_the_middle(folder: Path) -> str:
    """The output of a search that was killed after its first generation; on a busy machine some kills come too late."""
    for attempt in range(ATTEMPTS):
        output = f"killed{attempt}"
        process = search(folder, output, workers=2, hash_seed=5)
        end = time.monotonic() + STARTUP_S
        while process.poll() is None and n_rows(folder / output) <= N_GENOMES // 4:
            assert time.monotonic() < end, "nothing was evaluated"
            time.sleep(0.01)
        process.kill()
        _, err = process.communicate(timeout=STARTUP_S)
        assert process.returncode in (0, -signal.SIGKILL), err
        if N_GENOMES // 4 < n_rows(folder / output) < N_GENOMES:
            return output
    raise AssertionError("every kill came too late to mean anything")


def test_killed_in_the_middle_the_same_command_goes_on_to_the_same_archive(folder: Path, twins: dict[str, Any]) -> None:
    output = killed_in_the_middle(folder)
    run = only_run(folder, output)
    assert not (run / "summary.json").exists()

    said, err = finished(search(folder, output, workers=1, hash_seed=6))
    assert f"going on with {output}/{run.name}" in err
    assert left_behind(run) == left_behind(only_run(folder, "one"))
    assert said["front"] == twins["one"]["front"]


def test_two_processes_finalize_to_the_same_report_and_models(folder: Path, twins: dict[str, Any]) -> None:
    runs = [folder / "final" / output for output in twins]
    for output, run in zip(twins, runs, strict=True):
        shutil.copytree(only_run(folder, output), run)
    processes = [
        start(folder, "finalize", str(run), "--format", "json", hash_seed=seed) for seed, run in enumerate(runs, 8)
    ]
    reports = [finished(process)[0] for process in processes]
    for report in reports:
        del report["opened_at"]
        for entry in report["picks"]:
            del entry["validation"]["train_seconds"]
    assert reports[0] == reports[1]
    models = [{str(f.relative_to(run)): f.read_bytes() for f in run.glob("final/*/*")} for run in runs]
    assert models[0] == models[1]
    assert len(models[0]) == len({entry["member"] for entry in reports[0]["picks"]})
