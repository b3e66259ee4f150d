"""Trackers observe: whatever they do, the search ends as it would without them."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evorec.cli import main
from evorec.config import ExecutionConfig
from evorec.errors import ConfigError, Interruption
from evorec.run.directory import RunDirectory
from evorec.tracking import observers as module
from evorec.tracking.observers import Observers, track_model
from evorec.tracking.tracker import (
    CHALLENGER,
    TRACKERS,
    TrackedModel,
    TrackedRun,
    Tracker,
    TrackerKind,
    TrackerOptions,
    tracker_options,
)

HANG_S = 600.0
"""Longer than any test."""


class StandInOptions(TrackerOptions):
    """Where a stand-in fails or hangs."""

    fails_in: str = ""
    hangs_in: str = ""


class StandIn(Tracker):
    """Notes what it was told."""

    needs = "a-library"
    diary: list[tuple[str, Any]] = []  # noqa: RUF012 - of all stand-ins of a test
    released = threading.Event()

    def note(self, what: str, value: Any) -> None:
        self.diary.append((what, value))
        if self.options.fails_in == what:
            raise ImportError("No module named 'a_library'")
        if self.options.hangs_in == what:
            self.released.wait(HANG_S)

    def begin(self, run: TrackedRun, identifier: str | None) -> str:
        self.note("begin", (run.params["search.seed"], identifier))
        return identifier or "first"

    def generation(self, step: int, metrics: Mapping[str, float]) -> None:
        self.note("generation", (step, dict(metrics)))

    def artifact(self, file: Path) -> None:
        self.note("artifact", (file.name, file.stat().st_size > 0))

    def model(self, model: TrackedModel) -> None:
        self.note("model", (model.alias, model.member))

    def end(self, status: str) -> None:
        self.note("end", status)


@pytest.fixture(autouse=True)
def diary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    StandIn.diary = []
    StandIn.released = threading.Event()
    monkeypatch.chdir(tmp_path)  # MLflow keeps files of runs in the working directory
    monkeypatch.setattr("evorec.report.run_page.page", lambda record: "the page")  # takes seconds
    with TRACKERS.borrowed("stand_in", TrackerKind(StandIn, StandInOptions, StandIn.needs)):
        yield StandIn.diary
    StandIn.released.set()


def search(folder: Path, *settings: str) -> list[str]:
    given = (f"run.output={folder}", 'run.trackers=["stand_in"]', "search.generations=3", "search.population=8")
    given += ("search.surrogate=none", "run.tracker_wait_s=600", *settings)
    return ["search", "-p", "analytic", *(word for text in given for word in ("--set", text))]


def front_of(folder: Path) -> list[str]:
    (path,) = folder.glob("analytic-*")
    return sorted(member.name for member in (path / "archive").iterdir() if not member.name.startswith("."))


def test_a_tracker_gets_every_generation_once_also_over_several_starts(
    tmp_path: Path, diary: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([9.0] * 6)  # GiB of the disk: the first start stops in a later generation
    monkeypatch.setattr("evorec.cli.progress.free_gib", lambda folder: next(free, 0.0))
    assert main(search(tmp_path, "run.chunk=4")) == Interruption.exit_code
    monkeypatch.setattr("evorec.cli.progress.free_gib", lambda folder: 9.0)
    n_first = sum(what == "generation" for what, _ in diary)
    assert 0 < n_first < 3
    assert diary[0] == ("begin", ("0", None))
    assert diary[-1] == ("end", "interrupted")
    assert main(search(tmp_path, "run.chunk=4")) == 0
    assert diary[n_first + 2] == ("begin", ("0", "first"))
    reported = [value for what, value in diary if what == "generation"]
    assert [step for step, _ in reported] == [1, 2, 3]
    last = reported[-1][1]
    assert last.keys() == {
        "hypervolume", "evaluations", "failures", "dropped", "members", "best/quality", "best/cost",
    }  # fmt: skip
    (path,) = tmp_path.glob("analytic-*")
    with RunDirectory.open(path, read_only=True) as run:
        metrics = [member.metrics or {} for member in run.members()]
    assert last["best/quality"] == max(found["quality"] for found in metrics)
    assert last["best/cost"] == min(found["cost"] for found in metrics)
    assert diary[-3:] == [("artifact", ("front.csv", True)), ("artifact", ("report.html", True)), ("end", "finished")]


@pytest.mark.parametrize("where", ["begin", "generation", "artifact", "end"])
def test_a_tracker_that_fails_is_named_once_and_changes_nothing(
    tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(search(tmp_path / "a", "run.tracking.stand_in={fails_in = '" + where + "'}")) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "stand_in" in line]
    assert said == [
        "tracker stand_in: ImportError: No module named 'a_library' (pip install a-library, or evorec[track]); the run "
        "goes on without it"
    ]
    (path,) = (tmp_path / "a").glob("analytic-*")
    assert "No module named" in (path / "log.jsonl").read_text()
    assert main(search(tmp_path / "b", "run.trackers=[]")) == 0
    assert front_of(tmp_path / "a") == front_of(tmp_path / "b")


@pytest.mark.parametrize("where", ["begin", "generation"])
def test_a_tracker_that_hangs_does_not_hold_the_search(
    tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("run.tracking.stand_in={hangs_in = '" + where + "'}", "run.tracker_wait_s=0.1")
    start = time.monotonic()
    assert main(search(tmp_path, *settings)) == 0
    assert time.monotonic() - start < HANG_S / 2
    assert "tracker stand_in: it has not finished in time; the run goes on" in capsys.readouterr().err
    assert module.stuck()
    StandIn.released.set()


def test_a_tracker_that_does_not_keep_up_is_dropped(
    tmp_path: Path, diary: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE", 5)
    said: list[str] = []
    config = ExecutionConfig(trackers=("stand_in",), tracking={"stand_in": {"hangs_in": "begin"}}, tracker_wait_s=5.0)
    run = TrackedRun(tmp_path, "name", "problem", {"search.seed": "0"}, {})
    with Observers(run, config, say=said.append) as observers:
        for step in range(1, 20):
            observers.generation(step, {})
        StandIn.released.set()
    assert said == ["tracker stand_in: it does not keep up: 5 reports wait for it; the run goes on without it"]
    assert [what for what, _ in diary] == ["begin"]


def test_an_exported_bundle_is_told_to_the_trackers_of_its_run(
    tmp_path: Path, diary: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = SimpleNamespace(path=tmp_path, version="v" * 64, manifest={"member": "a1", "metrics": {"test": None}})
    monkeypatch.setattr(module, "read_bundle", lambda folder: bundle)
    assert main(search(tmp_path)) == 0
    (path,) = tmp_path.glob("analytic-*")
    diary.clear()
    with RunDirectory.open(path, read_only=True) as run:
        track_model(run, tmp_path, CHALLENGER, say=pytest.fail)
    assert diary == [("begin", ("0", "first")), ("model", ("challenger", "a1")), ("end", "finished")]


def test_unknown_trackers_and_settings_are_refused_before_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ('run.trackers=["mflow", "tensorboard"]', "run.tracking={tensorboard = {uri = 1}, wandb = {}}")
    assert main(search(tmp_path, *settings)) == ConfigError.exit_code
    err = capsys.readouterr().err
    for words in (
        "unknown tracker 'mflow'; did you mean 'mlflow'?",
        "run.tracking.tensorboard.uri: Extra inputs are not permitted, got 1; the settings of tensorboard are: folder.",
        "run.tracking.wandb (command line): run.trackers does not name wandb",
    ):
        assert words in err
    assert not list(tmp_path.iterdir())
    assert tracker_options(ExecutionConfig()) == {}


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_writes_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (evorec[track])")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(search(tmp_path, 'run.trackers=["tensorboard"]')) == 0
    (path,) = tmp_path.glob("analytic-*")
    events = EventAccumulator(str(path / "tensorboard"))
    events.Reload()
    tensors = [event.step for event in events.Tensors("hypervolume")]
    assert tensors == [1, 2, 3]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_a_run_with_settings_figures_and_files(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (evorec[track])")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracking = f"run.tracking.mlflow={{uri = {json.dumps(uri)}}}"
    assert main(search(tmp_path, 'run.trackers=["mlflow"]', tracking)) == 0
    client = mlflow.MlflowClient(tracking_uri=uri)
    (found,) = client.search_runs([client.get_experiment_by_name("evorec").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["search.generations"] == "3"
    assert [metric.step for metric in client.get_metric_history(found.info.run_id, "hypervolume")] == [1, 2, 3]
    assert {file.path for file in client.list_artifacts(found.info.run_id)} == {"front.csv", "report.html"}
