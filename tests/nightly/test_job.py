"""Nights on a tiny feed: once and only once, whatever interrupts them; the champion follows the verdict."""

import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from feed_run import TINY
from tiny_nights import night, quick, settings

from evorec.cli import main
from evorec.deploy.gate import Decision, Figure, SeedNoise, Verdict, compare
from evorec.errors import (
    ConfigError,
    DataError,
    ExpectationError,
    Interruption,
    NothingNewError,
    RunError,
    RunLockedError,
)
from evorec.nightly import job
from evorec.nightly.expected import Expected
from evorec.nightly.folder import nights
from evorec.outputs import lock_file
from evorec.run.atomic import read_sealed
from evorec.run.directory import RunDirectory
from evorec.serving.model_folder import ModelFolder
from evorec.serving.recommender import load_bundle
from evorec.tracking.tracker import TRACKERS, Tracker, TrackerKind, TrackerOptions

STEPS = ("guard", "search", "finalize", "export", "gate", "promote", "retain")
ROW = compare(Figure("recall@5", np.array([0.1, 0.3]), np.array([0.2, 0.3]), SeedNoise(0.01, 2)), seed=0)


@pytest.fixture
def done(monkeypatch, tmp_path_factory):
    return quick(monkeypatch, tmp_path_factory.getbasetemp())


def judges(monkeypatch, *verdicts):
    """The gate gives these verdicts, one per night."""
    given = iter(verdicts)

    def against(champion, challenger, run, problem, *, refusals, **_):
        verdict = next(given)
        if isinstance(verdict, Exception):
            raise verdict
        return Decision(Verdict.REJECT if refusals else verdict, (ROW,), (*refusals, "because"))

    monkeypatch.setattr(job, "against", against)


def test_a_night_from_the_command_line(tmp_path, monkeypatch, capsys, tmp_path_factory):
    """Without export and gate, in folders with letters of other alphabets; nothing is written beside the file."""
    with monkeypatch.context() as patch:
        quick(patch, tmp_path_factory.getbasetemp())
        export = job.export_bundle
    monkeypatch.setattr(job, "export_bundle", export)
    judges(monkeypatch, Verdict.PROMOTE)
    place, work = tmp_path / "конфиг ü", tmp_path / "夜"
    place.mkdir()
    work.mkdir()
    file = place / "nächtlich.toml"
    lines = [
        f"{section}.{name} = {json.dumps(value)}"
        for section, part in TINY.items()
        if isinstance(part, dict)
        for name, value in part.items()
        if section != "data"
    ]
    world = "\n".join(f"{name} = {value}" for name, value in TINY["data"]["simulator"].items())
    file.write_text(f'problem = "feed"\nconstraints = []\n{chr(10).join(lines)}\n[data.simulator]\n{world}\n')
    monkeypatch.chdir(work)
    monkeypatch.setenv("EVOREC_WEBHOOK", "http://127.0.0.1:9/token-geheim")
    words = ["nightly", str(file), "--set", "nightly.folder=ночь", "--time-budget", "2h"]
    expected = work / "expected.json"
    expected.write_text('{"recall@5": {"value": 0.2, "tolerance": 1.0}}')
    assert main([*words, "--expect", str(expected), "--format", "json"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert "geheim" not in out + err
    assert "the webhook was not told: ConnectionRefusedError" in err
    assert (summary["state"], summary["decision"]["verdict"]) == ("done", "PROMOTE")
    assert os.listdir(place) == ["nächtlich.toml"]
    root, models = work / "ночь", ModelFolder(work / "ночь" / "models")
    assert load_bundle(models.path / "champion").recommend([1], k=3)
    assert models.champion == summary["champion"] == summary["decision"]["challenger"]
    assert models.challenger is None
    (entry,) = models.log()
    assert (entry["kind"], entry["night"]) == ("promote", summary["night"])
    assert read_sealed(root / "summary.json") == read_sealed(root / "runs" / summary["night"] / "summary.json")
    outcomes = {check["name"]: check["outcome"] for check in summary["checks"]}
    assert outcomes == dict.fromkeys(outcomes, "pass")
    assert {"data.rows", "bundle.agrees", "bundle.loads", "bundle.latency", "gate.recall@5", "expect.recall@5"} <= {
        *outcomes
    }
    # The same command again.
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.name != "lock"}
    assert main(words) == 99
    assert "the same configuration and data on the same day" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.name != "lock"} == before
    held = lock_file(root / "lock")
    assert main(words) == 99
    assert "is held by" in capsys.readouterr().err
    with pytest.raises(RunLockedError):
        job.run_night(settings(root))
    os.close(held)


def test_a_night_that_dies_before_and_after_every_step_ends_as_if_it_had_not(tmp_path, monkeypatch, done):
    judges(monkeypatch, *[Verdict.PROMOTE] * 9)
    whole = night(tmp_path / "whole")
    assert [*done] == ["search", "finalize", "export"]
    done.clear()
    root, step = tmp_path / "dying", job._Job._step

    def dies(name, when):
        def dying(self, own):
            class Dying:
                def __enter__(self):
                    if (own, when) == (name, "before"):
                        raise KeyboardInterrupt
                    inner.__enter__()

                def __exit__(self, *error):
                    inner.__exit__(*error)
                    if (own, when) == (name, "after") and error[0] is None:
                        raise KeyboardInterrupt

            inner = step(self, own)
            return Dying()

        return dying

    for name in STEPS:
        for when in ("before", "after"):
            with monkeypatch.context() as patch:
                patch.setattr(job._Job, "_step", dies(name, when))
                with pytest.raises(KeyboardInterrupt):
                    night(root)
            assert read_sealed(root / "summary.json")["state"] == "interrupted"
            champion = ModelFolder(root / "models").champion
            assert champion is None or load_bundle(root / "models" / "champion")
    found = night(root)
    assert [*done] == ["search", "finalize", "export"]  # each once, over fifteen starts
    assert found["decision"] == whole["decision"]
    files = [tmp_path / name / "runs" / whole["night"] / "decision.json" for name in ("whole", "dying")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [entry["kind"] for entry in ModelFolder(root / "models").log()] == ["promote"]
    assert len(nights(root)) == 1
    with pytest.raises(NothingNewError):
        night(root)


def test_an_interrupted_search_goes_on_and_its_time_counts(tmp_path, monkeypatch, done):
    judges(monkeypatch, Verdict.HOLD)
    stops = iter([False] * 3)  # before two steps and before the stack
    with pytest.raises(Interruption, match="interrupted in generation 1 of 1"):
        night(tmp_path, stop=lambda: next(stops, True), minutes=60)
    (own,) = nights(tmp_path)
    spent = own.seconds
    assert spent["search"] > 0
    assert night(tmp_path, minutes=60)["seconds"]["search"] > spent["search"]
    assert own.is_done
    events = [json.loads(line) for line in (own.path / "events.jsonl").read_text().splitlines()]
    assert [event["state"] for event in events if event["kind"] == "end"] == ["interrupted", "done"]


def test_the_champion_follows_the_verdicts_of_the_nights(tmp_path, monkeypatch, done):
    judges(monkeypatch, Verdict.REJECT, Verdict.PROMOTE, Verdict.HOLD, Verdict.REJECT, Verdict.PROMOTE)
    models, champions, challengers = ModelFolder(tmp_path / "models"), [], []
    for day in range(5):
        found = night(tmp_path, day)
        assert found["exit_code"] == 0
        champions.append(models.champion)
        challengers.append((models.challenger or "") == found["decision"]["challenger"])
    first, second = champions[1], champions[4]
    assert champions == [None, first, first, first, second]
    assert challengers == [False, False, True, False, False]  # what was held can be tried; nothing rejected is left
    assert {path.name for path in (models.path / "bundles").glob("[!.]*")} == {first, second}
    kinds = [(entry["kind"], entry.get("decision", {}).get("verdict")) for entry in models.log()]
    assert kinds == [
        ("refuse", "REJECT"), ("promote", "PROMOTE"), ("refuse", "HOLD"), ("refuse", "REJECT"), ("promote", "PROMOTE"),
    ]  # fmt: skip
    # What a person has rolled back does not come back by itself.
    last = nights(tmp_path)[-1]
    assert models.rollback(reason="complaints") == first
    (last.path / "summary.json").unlink()
    (last.path / "decision.json").unlink()
    assert night(tmp_path, 4)["decision"]["reasons"] == ["it was the champion before, and a person has rolled it back"]
    assert models.champion == first


def test_a_night_reports_to_the_trackers_of_its_run(tmp_path, monkeypatch, done):
    class Diary(Tracker):
        lines: list[str] = []  # noqa: RUF012

        def begin(self, run, identifier):
            self.lines.append(f"begin {identifier}")
            return "the same"

        def generation(self, step, metrics):
            self.lines.append(f"generation {step}")

        def artifact(self, file):
            self.lines.append(file.name)

        def model(self, model):
            self.lines.append(model.alias)

    def load(config):
        problem = load_problem(config)
        execution = problem.config.run.model_copy(update={"trackers": ("diary",), "tracker_wait_s": 600.0})
        problem.config = problem.config.model_copy(update={"run": execution})
        return problem

    load_problem = job.load_problem
    monkeypatch.setattr(job, "load_problem", load)
    monkeypatch.setattr("evorec.report.run_page.page", lambda record: "the page")
    judges(monkeypatch, Verdict.PROMOTE)
    with TRACKERS.borrowed("diary", TrackerKind(Diary, TrackerOptions, "")):
        assert night(tmp_path)["exit_code"] == 0
    assert Diary.lines == [
        "begin None", "generation 1", "front.csv", "report.html", "begin the same", "challenger", "begin the same",
        "champion",
    ]  # fmt: skip


def test_a_gate_that_cannot_read_is_errored_and_judges_again(tmp_path, monkeypatch, done):
    judges(monkeypatch, RunError("the champion is damaged"), Verdict.PROMOTE)
    with pytest.raises(RunError, match="the champion is damaged"):
        night(tmp_path)
    stored = read_sealed(tmp_path / "summary.json")
    assert (stored["state"], stored["decision"]["verdict"], stored["exit_code"]) == ("errored", "ERRORED", 2)
    assert ModelFolder(tmp_path / "models").log() == []
    found = night(tmp_path)
    assert (found["decision"]["verdict"], done.count("export")) == ("PROMOTE", 1)


def test_refused_data_are_not_trained_on_until_a_person_says_so(tmp_path, done, monkeypatch):
    judges(monkeypatch, Verdict.HOLD)
    with pytest.raises(
        DataError, match=r"data.rows: 2,400 rows, expected at least 5,000(.|\n)*nightly.guard.rows=warn"
    ):
        night(tmp_path, guard={"fewest_rows": 5000})
    assert done == []
    stored = read_sealed(tmp_path / "summary.json")
    assert (stored["state"], stored["exit_code"], stored["last_success_s"]) == ("refused", 3, None)
    notes = []
    assert night(tmp_path, guard={"fewest_rows": 5000, "rows": "warn"}, notes=notes)["state"] == "done"
    assert any("warning: data.rows" in note for note in notes)


def test_figures_outside_of_their_tolerance_refuse_the_challenger(tmp_path, monkeypatch, done):
    judges(monkeypatch, Verdict.PROMOTE)
    with pytest.raises(ExpectationError, match=r"recall@5 .*, expected 0.9 ± 0.01"):
        night(tmp_path, expected={"recall@5": Expected(0.9, 0.01)})
    stored = read_sealed(tmp_path / "summary.json")
    assert (stored["state"], stored["exit_code"], stored["decision"]["verdict"]) == ("done", 1, "REJECT")
    assert ModelFolder(tmp_path / "models").champion is None


def test_a_slow_challenger_is_refused(tmp_path, monkeypatch, done):
    judges(monkeypatch, Verdict.PROMOTE)
    monkeypatch.setattr(job, "request_seconds", lambda *_: np.array([0.001] * 90 + [0.5] * 10))
    assert night(tmp_path, latency_ms=100)["decision"]["verdict"] == "REJECT"


def test_the_clock_orders_nothing(tmp_path, monkeypatch, done):
    judges(monkeypatch, *[Verdict.HOLD] * 3)
    night(tmp_path, 5)
    notes = []
    back = night(tmp_path, 3, notes=notes)  # set back by two days
    assert any("the clock is behind" in note for note in notes)
    assert [one.key for one in nights(tmp_path)][-1] == back["night"]
    with pytest.raises(NothingNewError):
        night(tmp_path, 5)
    # Clocks in Berlin go from 3:00 back to 2:00: half past two comes twice, and is the same night in UTC.
    berlin = [datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Berlin")) for fold in (0, 1)]
    assert berlin[1].timestamp() - berlin[0].timestamp() == 3600
    config = settings(tmp_path)
    found = job.run_night(config, hooks=job.Hooks(clock=lambda: berlin[0]))
    assert found["night"].startswith("2026-10-25-")
    with pytest.raises(NothingNewError):
        job.run_night(config, hooks=job.Hooks(clock=lambda: berlin[1]))


def test_a_night_that_was_interrupted_before_midnight_goes_on_after_it(tmp_path, monkeypatch, done):
    judges(monkeypatch, *[Verdict.HOLD] * 2)
    with pytest.raises(Interruption):
        night(tmp_path, stop=lambda: done[-1:] == ["finalize"] and "the disk is nearly full")
    assert night(tmp_path, 1)["night"].startswith("2026-12-01-")
    assert done.count("search") == 1
    assert night(tmp_path, 1)["night"].startswith("2026-12-02-")


def test_lost_folders_are_made_again(tmp_path, monkeypatch, done):
    judges(monkeypatch, *[Verdict.HOLD] * 2, Verdict.PROMOTE)
    with pytest.raises(Interruption):
        night(tmp_path, stop=lambda: done[-1:] == ["finalize"])
    (own,) = nights(tmp_path)
    shutil.rmtree(own.search)
    assert night(tmp_path)["state"] == "done"
    assert done == ["search", "finalize", "search", "finalize", "export"]
    (own.path / "summary.json").write_text("{}")  # damaged: judged already, nothing is trained
    del done[:]
    assert night(tmp_path)["state"] == "done"
    assert done == []
    shutil.rmtree(tmp_path / "runs")
    assert night(tmp_path)["number"] == 1
    assert done == ["search", "finalize", "export"]
    own = nights(tmp_path)[0]
    (own.path / "plan.json").unlink()  # died while it began
    assert night(tmp_path)["number"] == 1


def test_a_night_starts_from_those_before_it(tmp_path, monkeypatch, done):
    judges(monkeypatch, *[Verdict.PROMOTE] * 2)
    night(tmp_path, carried=3)
    first = nights(tmp_path)[0]
    assert first.plan["start"] == []
    champion = json.loads((tmp_path / "models" / "champion" / "manifest.json").read_text())["spec"]
    night(tmp_path, 1, carried=3)
    second = nights(tmp_path)[1]
    start = second.plan["start"]
    assert 1 <= len(start) <= 3
    assert {name: start[0][name] for name in ("mechanism", "width")} == {n: champion[n] for n in ("mechanism", "width")}
    with RunDirectory.open(second.search, read_only=True) as run:
        assert [*run.config.search.start] == start
        assert len(run.ledger.evaluations()) == 4
    memory = job._Job(settings(tmp_path), tmp_path, {}, "", job.QUIET)._memory()
    assert memory.frame["problem"].to_list().count("feed") >= 8  # of both nights, beside the shipped rows


def test_the_search_leaves_time_for_the_other_steps(tmp_path, monkeypatch, done):
    judges(monkeypatch, *[Verdict.HOLD] * 2)
    given = []

    def search(*_, time_left, **kwargs):
        given.append(time_left and time_left())
        raise Interruption("enough")

    from evorec.search import engine

    night(tmp_path)
    (first,) = nights(tmp_path)
    (first.path / "spent.json").write_text(json.dumps({"finalize": 1000, "export": 200}))
    monkeypatch.setattr(engine, "search", search)
    for nightly in ({}, {"minutes": 60}, {"minutes": 200}, {"minutes": 60, "reserve_minutes": 10}):
        with pytest.raises(Interruption, match="enough"):
            night(tmp_path, 1, **nightly)
    assert given[0] is None
    # The larger of a quarter of the time and one and a half times the last night's 1200 s; or what the settings say.
    assert given[1:] == pytest.approx([3600 - 1800, 12000 - 3000, 3600 - 600], abs=60)


@pytest.mark.parametrize(
    ("overlay", "match"),
    [
        ({"finalize": {"seeds": 1}}, "finalize.seeds must be at least 2"),
        ({"nightly": {"guards": ["auc/click"]}}, "must be metrics with a value per user, got 'auc/click'"),
        ({"nightly": {"target": "nonsense"}}, "'nonsense' is not a metric"),
        ({"nightly": {"pick": "kneee"}}, "kneee"),
    ],
)
def test_what_would_be_found_out_after_hours_is_refused_at_once(overlay, match, tmp_path, done):
    config = settings(tmp_path)
    for section, part in overlay.items():
        config = config.model_copy(update={section: getattr(config, section).model_copy(update=part)})
    with pytest.raises(ConfigError, match=match):
        job.run_night(config)
    assert done == []


def test_a_broken_webhook_and_prometheus_file_change_nothing(tmp_path, monkeypatch, done):
    judges(monkeypatch, Verdict.HOLD)
    notes = []
    (tmp_path / "file").write_text("")
    found = night(
        tmp_path / "n", webhook="http://127.0.0.1:9/secret", notes=notes, prometheus=str(tmp_path / "file" / "x.prom")
    )
    assert found["exit_code"] == 0
    text = "\n".join(notes)
    assert "the webhook was not told: ConnectionRefusedError" in text
    assert "warning: nightly.prometheus" in text
    assert "secret" not in text + Path(tmp_path / "n" / "summary.json").read_text()
