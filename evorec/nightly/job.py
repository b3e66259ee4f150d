"""The job of a night: read, guard, search, finalize, export, gate, promote, retain, report.

Each step leaves a file, and a step whose file is there is not done again, so a start after any death goes on with the
step that was running; the search and its ledger go on inside the step. The night is over when its summary says so.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from evorec.archive.decide import check_pick
from evorec.archive.pareto import bounded
from evorec.config import RecommenderConfig
from evorec.data.splits import split
from evorec.deploy.bundle.checks import REQUESTS, BundleDiffersError, request_seconds
from evorec.deploy.bundle.export import export_bundle
from evorec.deploy.bundle.onnx_files import require_onnx
from evorec.deploy.final.finalize import finalize
from evorec.deploy.gate import Decision, SeedNoise, Verdict
from evorec.deploy.window import against, seed_noise
from evorec.errors import (
    ConfigError,
    DataError,
    EvorecError,
    ExpectationError,
    Interruption,
    NothingNewError,
    RunError,
    SearchError,
    disk_is_full,
)
from evorec.nightly.checks import Check, Outcome
from evorec.nightly.expected import Expected, check_expected
from evorec.nightly.folder import (
    BUNDLE,
    DATA,
    DONE,
    FORMAT,
    JUNIT,
    PROMETHEUS,
    RUNS,
    SEARCH,
    SUMMARY,
    Json,
    Key,
    Night,
    Stopwatch,
    nights,
    now,
    settings_sha256,
)
from evorec.nightly.guard import check_data, profile
from evorec.nightly.reports import junit_xml, post, prometheus_text
from evorec.nightly.retention import prune
from evorec.objectives import resolve
from evorec.outputs import write_output
from evorec.problem import load_problem
from evorec.recommender.checks import baseline_names
from evorec.recommender.problem import RecProblem
from evorec.report.observed import observe, observe_result, observers_of
from evorec.run.atomic import read_sealed, write_sealed
from evorec.run.directory import RunDirectory, run_path
from evorec.run.lock import FolderLock
from evorec.search.checks import check_room
from evorec.search.executor_choice import executor_for
from evorec.search.memory.library import gathered
from evorec.search.memory.table import Memory
from evorec.serving.bundle import read_bundle
from evorec.serving.model_folder import CHALLENGER, CHAMPION, ROLLBACK, ModelFolder, sealed_line
from evorec.serving.recommender import Recommender, load_bundle
from evorec.tracking import tracker
from evorec.tracking.observers import track_model

if TYPE_CHECKING:
    from evorec.search.engine import Progress

ERRORED: Final = "ERRORED"
"""Verdict of a gate that could not read what it compares; the next start judges again."""
LEAST_RESERVE: Final = 0.25
"""Share of the time that the search leaves to the other steps, unless the configuration says how much."""
RESERVE_FACTOR: Final = 1.5
"""Of the time that the steps after the search took in the last night."""
SLOWEST_SHARE: Final = 95
"""Percentile of the latency that counts."""


@final
@dataclass(frozen=True)
class Hooks:
    """How a night talks to whoever started it.

    Attributes:
        note: gets a line of text per step.
        progress: opened for the time of the search; gets its reports.
        stop: True, or a reason in words, ends the night; it is asked between stacks and steps.
        clock: time of day.
    """

    note: Callable[[str], None] = lambda _: None
    progress: Callable[[], AbstractContextManager[Callable[[Progress], None]]] = lambda: nullcontext(lambda _: None)
    stop: Callable[[], bool | str] = lambda: False
    clock: Callable[[], datetime] = now


QUIET: Final = Hooks()


def run_night(
    config: RecommenderConfig,
    *,
    expected: Mapping[str, Expected] = MappingProxyType({}),
    webhook: str = "",
    hooks: Hooks = QUIET,
) -> Json:
    """Do what is left of tonight's work.

    Args:
        config: of the night; ``run.output`` has no effect, the runs are in ``nightly.folder``.
        expected: figures that the challenger must have, by metric; one outside of its tolerance refuses the challenger.
        webhook: URL that gets the summary; empty = none. Its failure changes nothing.
        hooks: how the night talks.
    Returns:
        The summary, as it is stored.
    Raises:
        RunLockedError: another process holds the folder.
        NothingNewError: the night was done before.
        ConfigError, RunError: something cannot be used; a challenger that cannot be judged is an error, too.
        DataError: the data are refused.
        SearchError: every candidate failed.
        Interruption: `Hooks.stop` said so, or there is no space; the same call goes on.
        ExpectationError: the night is done, and a figure was outside of its tolerance.
    """
    _check_config(config)
    root = Path(config.nightly.folder)
    root.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(root)
    try:
        return _Job(config, root, expected, webhook, hooks).run()
    finally:
        lock.release()


def _check_config(config: RecommenderConfig) -> None:
    """Refuse what would be found out after hours.

    Raises:
        ConfigError: it is wrong, or a library is missing.
    """
    require_onnx()
    if config.of_rows:
        raise ConfigError("evorec nightly compares lists of items, and a table of rows has none; use `evorec search`.")
    if config.finalize.seeds < 2:
        raise ConfigError(
            f"finalize.seeds must be at least 2 for a nightly job, got {config.finalize.seeds}: without a second seed "
            "the gate does not know which differences are noise."
        )
    if config.finalize.rows != "train+validation":
        raise ConfigError('finalize.rows must be "train+validation" for a nightly job: its challenger is to be served.')


@final
@dataclass
class _Job:
    """A start of a night.

    Attributes:
        began: time of day of this start.
        night, watch, problem: once they are known.
        checks: until now, in the order in which they were made.
        facts: parts of the summary.
    """

    config: RecommenderConfig
    root: Path
    expected: Mapping[str, Expected]
    webhook: str
    hooks: Hooks
    began: datetime = field(init=False)
    began_s: float = field(default_factory=time.monotonic)
    night: Night = field(init=False)
    watch: Stopwatch = field(init=False)
    problem: RecProblem = field(init=False)
    models: ModelFolder = field(init=False)
    has_begun: bool = False
    checks: list[Check] = field(default_factory=list)
    facts: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = self.hooks.clock().astimezone(UTC)  # whatever clocks are changed here, a day has one date
        nightly = self.config.nightly
        self.models = ModelFolder(nightly.models or self.root / "models", clock=self.hooks.clock)

    def run(self) -> Json:
        """Do everything that is left, and report how it ended."""
        try:
            self._work()
        except BaseException as error:
            if not isinstance(error, NothingNewError):
                with suppress(OSError):  # the disk may be full: the error itself says so
                    self._report(error)
            raise
        return self._report(None)

    def _work(self) -> None:
        self.hooks.note(f"problem {self.config.problem_name}: reading the data")
        self.problem = self._read()
        self._begin()
        self._write_prometheus({"exit_code": -1})
        with self._step("guard"):
            self._guard()
        with self._step("search"):
            path = self._search()
        with RunDirectory.open(path) as run:
            if not run.members():
                self._decide(Decision(Verdict.REJECT, (), ("no candidate met the constraints",)), run, None)
            else:
                with self._step("finalize"):
                    member = self._finalize(run)
                with self._step("export"):
                    refusals = self._export(run, member)
                with self._step("gate"):
                    self._gate(run, member, refusals)
        with self._step("promote"):
            self._publish()
        with self._step("retain"):
            self.facts["removed"] = prune(self.root, self.models, self.config.nightly)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self._check_stop(f"before the step {name}")
        with self.watch.step(name):
            yield

    def _check_stop(self, where: str) -> None:
        if why := self.hooks.stop():
            raise Interruption(f"interrupted {where}{f': {why}' * isinstance(why, str)}; the same command goes on.")

    def _read(self) -> RecProblem:
        problem = load_problem(self.config)
        if not isinstance(problem, RecProblem):
            raise ConfigError(f"problem {self.config.problem!r} trains no recommender, so there is nothing to promote.")
        known = problem.data.baselines.measure("popularity").per_user
        k, tasks = problem.config.k, problem.config.tasks.kind_of_each()
        pick = self.config.nightly.pick
        check_pick(pick, problem.objectives, k, tasks=tasks, baselines=baseline_names(problem.config))
        for name in (self.config.nightly.target, *self.config.nightly.guards):
            if resolve(name, k) not in known:
                raise ConfigError(
                    f"nightly.target and nightly.guards must be metrics with a value per user, got {name!r}; there are "
                    f"{', '.join(sorted(known))}."
                )
        return problem

    def _begin(self) -> None:
        """Find the night that goes on, or begin one."""
        from evorec.search.memory.prior import with_start  # loads pymoo, which a refusal does not need

        before, today = nights(self.root), self.began.date()
        settings, data = settings_sha256(self.config), self.problem.data_sha256
        key = Key(today, settings, data)
        # A night that was interrupted before midnight is the same night after it.
        open_ones = [Key(day, settings, data).name for day in (today, today - timedelta(days=1))]
        by_name = {night.path.name: night for night in before}
        last = max((night.number for night in before), default=0)
        going_on = [by_name[name] for name in open_ones if name in by_name and not by_name[name].is_done]
        if key.name in by_name and by_name[key.name].is_done:
            raise NothingNewError(
                f"night {key.name} is done: the same configuration and data on the same day (UTC); nothing was run."
            )
        if going_on:
            self.night = going_on[0]
            self.hooks.note(f"going on with night {self.night.key}")
        else:
            path = self.root / RUNS / key.name
            specs = with_start(self.config, self._carried(before), self.problem.space).search.start
            start = [dict(spec) for spec in specs[len(self.config.search.start) :]]
            plan = {
                "key": key.name, "number": last + 1, "day": today.isoformat(), "settings_sha256": settings,
                "data_sha256": data, "start": start,
            }  # fmt: skip
            self.night = Night.begin(path, plan)
            self.hooks.note(f"night {key.name}, number {last + 1}")
        if any(night.plan["day"] > today.isoformat() for night in before):
            self.hooks.note("the clock is behind that of an earlier night; nights are ordered by their number")
        self.watch = Stopwatch(self.night, lead_s=time.monotonic() - self.began_s)
        self.has_begun = True
        version = metadata.version("evorec")
        self.night.log("start", process=os.getpid(), host=socket.gethostname(), version=version)
        start = self.night.plan["start"]
        search = self.problem.config.search
        search = search.model_copy(update={"start": (*search.start, *start)}).sized(self.problem.device_type)
        self.problem.config = self.problem.config.model_copy(update={"search": search, "nightly": self.config.nightly})

    def _carried(self, before: Sequence[Night]) -> list[Mapping[str, Any]]:
        """Genomes to begin with: the champion's, those that the last night picked, then those that cover its front."""
        n, found = self.config.nightly.carried, list[Mapping[str, Any]]()
        with suppress(OSError, ValueError, RunError):  # a champion that cannot be read is the gate's to report
            if n and self.models.champion is not None:
                found.append(json.loads((self.models.path / CHAMPION / "manifest.json").read_bytes())["spec"])
        last = next((night.search for night in reversed(before) if night.is_done and night.search), None)
        if last is None or not n:
            return [spec for spec in found if spec][:n]
        objectives = self.problem.objectives
        with suppress(RunError), RunDirectory.open(last, read_only=True) as run:
            members = {m.key: m for m in run.members() if all(o.metric in (m.metrics or {}) for o in objectives)}
            picked = [entry["member"] for entry in (run.read_final() or {"picks": ()})["picks"]]
            rows = [[(m.metrics or {})[o.metric] for m in members.values()] for o in objectives]
            F = np.array([o.normalised(values) for o, values in zip(objectives, rows, strict=True)]).T
            cover, _ = bounded(F.reshape(len(members), len(objectives)), max(n, len(objectives)))
            keys = dict.fromkeys([*(key for key in picked if key in members), *(list(members)[i] for i in cover)])
            found += [members[key].spec for key in keys]
        different = [spec for number, spec in enumerate(found) if spec and spec not in found[:number]]
        return different[:n]

    def _guard(self) -> None:
        stored = self.night.read(DATA, "checks", "profile")
        if stored is not None and all(check["outcome"] != Outcome.FAIL for check in stored["checks"]):
            self.checks = [Check(c["name"], Outcome(c["outcome"]), c["text"]) for c in stored["checks"]]
            return
        tables, parts = self.problem.tables, split(self.problem.tables, self.problem.config.split)
        done = [night for night in nights(self.root) if night.is_done and night.number < self.night.number]
        before = next(((n, f) for n in reversed(done) if (f := n.read(DATA, "profile")) is not None), None)
        own = profile(tables, parts)
        guard = self.config.nightly.guard
        self.checks = check_data(tables, parts, guard, own=own, before=before[1]["profile"] if before else None)
        compared = before[0].key if before else None
        rows = [check.to_json() for check in self.checks]
        self.night.write(DATA, {"format": FORMAT, "compared_with": compared, "checks": rows, "profile": own})
        for check in self.checks:
            if check.outcome is Outcome.WARN:
                self.hooks.note(f"warning: {check.name}: {check.text}")
        if failed := [check for check in self.checks if check.outcome is Outcome.FAIL]:
            lines = "\n".join(f"  {check.name}: {check.text}" for check in failed)
            example = failed[0].name.replace("data.", "nightly.guard.")
            raise DataError(
                f"the data are refused, compared with night {compared}; nothing was trained:\n{lines}\nRepair the "
                f"data, or, if they are right, start once with --set {example}=warn"
            )

    def _search(self) -> Path:
        from evorec.search import engine

        config, problem = self.problem.config, self.problem
        fingerprint = config.fingerprint(problem.data_sha256)
        root = self.night.path / SEARCH
        path = run_path(root, config, fingerprint)
        if RunDirectory.exists(path):
            run = RunDirectory.open(path)
        else:
            problem.check_first_start()
            run = RunDirectory.create(root, config=config, fingerprint=fingerprint, environment=problem.environment)
        with run:
            # Another machine may go on: the record says so, and the night is not lost.
            run.check_same(
                config=config, fingerprint=fingerprint, environment=problem.environment, allow_different_machine=True
            )
            if not run.finished or run.lost():
                check_room(path, config, problem)
                self.hooks.note(f"searching in {path}")
                memory = self._memory() if config.search.memory == "auto" else None
                executor = executor_for(config.run, device=problem.device_type)
                observers = observers_of(run, config.run, say=self.hooks.note)
                with run.logged(), observers, self.hooks.progress() as progress:

                    def show(now: Progress) -> None:
                        self.watch.tick()
                        progress(now)
                        observe(observers, now)

                    engine.search(
                        problem, config.search, run=run, executor=executor, chunk=config.run.chunk, memory=memory,
                        progress=show, stop=self.hooks.stop, time_left=self._time_left(),
                    )  # fmt: skip
                    observe_result(observers, path)
            summary = run.read_summary() or {}
            shares = summary.get("hypervolume_share") or [0.0]
            self.facts["search"] = {
                "run": str(path), "evaluations": summary.get("n_evaluated"), "failed": summary.get("n_failed"),
                "members": len(summary.get("members", ())), "hypervolume_share": shares[-1],
                "generations": len(summary.get("hypervolume_share", ())), "reason": summary.get("reason"),
                "memory": run.memory_text, "machines": run.machines,
            }  # fmt: skip
        return path

    def _memory(self) -> Memory:
        """The shipped rows and those of all kept nights; a file that cannot be read is left out."""
        found = [gathered("auto", None)]
        for file in sorted((self.root / RUNS).glob(f"*/{SEARCH}/memory/*.parquet")):
            try:
                found.append(Memory.read(file))
            except DataError as error:
                self.hooks.note(f"warning: {error}")
        return Memory.joined(found)

    def _time_left(self) -> Callable[[], float] | None:
        """Seconds that the search may still take; ``None`` = any."""
        nightly = self.config.nightly
        budget_s = 60 * nightly.minutes
        if not budget_s:
            return None
        done = [night for night in nights(self.root) if night.is_done]
        last = done[-1].seconds if done else {}
        after = sum(last.get(name, 0.0) for name in ("finalize", "export", "gate", "promote", "retain"))
        reserve_s = 60 * nightly.reserve_minutes or max(LEAST_RESERVE * budget_s, RESERVE_FACTOR * after)
        return lambda: budget_s - reserve_s - self.watch.total_s

    def _between(self, text: str) -> None:
        """A note of a longer step, at which it can be ended."""
        self.hooks.note(text)
        self.watch.tick()
        self._check_stop("in a step, which is repeated")

    def _finalize(self, run: RunDirectory) -> str:
        """The member of the pick, trained again and measured on the test."""
        config = self.problem.config.finalize
        pick = self.config.nightly.pick
        config = config.model_copy(update={"picks": tuple(dict.fromkeys((pick, *config.picks)))})
        report = run.read_final() or finalize(run, self.problem, config, progress=self._between)
        (entry,) = (entry for entry in report["picks"] if entry["pick"] == pick)
        self.facts["test"] = {name: value["mean"] for name, value in entry["test"].items()}
        return str(entry["member"])

    def _export(self, run: RunDirectory, member: str) -> list[str]:
        """Write the bundle of the challenger; reasons why it cannot be served."""
        out = self.night.path / BUNDLE
        if out.exists():
            try:
                read_bundle(out)
            except RunError as error:
                self.hooks.note(f"exporting again: {error}")
                shutil.rmtree(out)
        try:
            if not out.exists():
                export_bundle(run, self.problem, member, out, progress=self._between)
                track_model(run, out, tracker.CHALLENGER, say=self.hooks.note)
        except (BundleDiffersError, ConfigError) as error:
            self.checks.append(Check("bundle.agrees", Outcome.FAIL, str(error)))
            return [f"the export failed: {error}"]
        self.checks.append(Check("bundle.agrees", Outcome.PASS, "its lists are those of the trained member"))
        return []

    def _gate(self, run: RunDirectory, member: str, refusals: list[str]) -> None:
        """Judge the challenger, unless it was judged against the present champion before."""
        stored, bundle = self.night.decision, self.night.path / BUNDLE
        self.checks += check_expected(self.expected, self.facts["test"])
        if refusals:
            self._decide(Decision(Verdict.REJECT, (), tuple(refusals)), run, None)
            return
        if (
            stored
            and stored["verdict"] != ERRORED
            and self.models.champion in (stored["champion"], stored["challenger"])
        ):
            self.facts["decision"] = stored
            return
        name = self.models.challenge(bundle)
        try:
            decision = self._judged(run, name)
        except (RunError, DataError) as error:
            self.checks.append(Check("gate.audit", Outcome.ERROR, str(error)))
            self._record({"verdict": ERRORED, "comparisons": [], "reasons": [str(error)]}, run, name, None)
            raise
        self._decide(decision, run, name)

    def _judged(self, run: RunDirectory, name: str) -> Decision:
        nightly, k = self.config.nightly, self.problem.config.k
        target, *guards = (resolve(metric, k) for metric in (nightly.target, *nightly.guards))
        champion = self.models.champion
        if name == champion:
            return Decision(Verdict.HOLD, (), ("it is the champion, byte by byte",))
        if name in {entry["previous"] for entry in self.models.log() if entry["kind"] == ROLLBACK}:
            return Decision(Verdict.HOLD, (), ("it was the champion before, and a person has rolled it back",))
        try:
            challenger = load_bundle(self.models.path / CHALLENGER)
        except RunError as error:
            self.checks.append(Check("bundle.loads", Outcome.FAIL, str(error)))
            return Decision(Verdict.REJECT, (), (f"the bundle does not load: {error}",))
        self.checks.append(Check("bundle.loads", Outcome.PASS, "every byte is that of its manifest"))
        refusals = self._slow(challenger)
        refusals += [c.text for c in self.checks if c.name.startswith("expect.") and c.outcome is Outcome.FAIL]
        served = None if champion is None else load_bundle(self.models.path / CHAMPION)
        report = run.read_final() or {}
        return against(
            served, challenger, run, self.problem, target=target, guards=guards, refusals=refusals,
            noise=self._noise(seed_noise(report, (target, *guards))),
        )  # fmt: skip

    def _slow(self, challenger: Recommender) -> list[str]:
        """Whether the challenger answers too slowly, in words."""
        limit = self.config.nightly.latency_ms
        if not limit:
            return []
        ids = self.problem.data.dataset.user_ids
        users = ids[:: max(1, len(ids) // REQUESTS)][:REQUESTS].tolist()
        found = 1000 * float(np.percentile(request_seconds(challenger, users), SLOWEST_SHARE))
        text = f"{SLOWEST_SHARE} % of the requests take {found:.1f} ms or less, allowed are {limit:g} ms"
        self.checks.append(Check("bundle.latency", Outcome.FAIL if found > limit else Outcome.PASS, text))
        return [text] if found > limit else []

    def _noise(self, own: Mapping[str, SeedNoise]) -> dict[str, SeedNoise]:
        """Noise between seeds, pooled over the kept nights: a night alone has two or three seeds."""
        self.facts["noise"] = {name: vars(one) for name, one in own.items()}
        estimates = {name: [one] for name, one in own.items()}
        for night in nights(self.root):
            decision = night.decision if night.number != self.night.number else None
            for name, stored in ((decision or {}).get("noise") or {}).items():
                if name in estimates:
                    estimates[name].append(SeedNoise(stored["std"], stored["freedom"]))
        return {name: SeedNoise.pooled(found) for name, found in estimates.items()}

    def _decide(self, decision: Decision, run: RunDirectory, name: str | None) -> None:
        self._record(decision.to_json(), run, name, self.models.champion)

    def _record(self, decision: Json, run: RunDirectory, name: str | None, champion: str | None) -> None:
        """Store the verdict; the same night with the same bundles gives the same bytes."""
        entry = {
            "format": FORMAT, "night": self.night.key, **decision, "champion": champion, "challenger": name,
            "window": {"run": run.fingerprint, "data_sha256": self.problem.data_sha256},
            "noise": self.facts.get("noise", {}),
        }  # fmt: skip
        self.night.write_decision(sealed_line(entry))
        self.facts["decision"] = entry

    def _publish(self) -> None:
        """Follow the verdict, once."""
        decision, bundle = self.facts["decision"], self.night.path / BUNDLE
        verdict, name = decision["verdict"], decision["challenger"]
        for row in decision["comparisons"]:
            change = f"{row['champion']:.4g} -> {row['challenger']:.4g} ({row['low']:+.4g}..{row['high']:+.4g})"
            bad = Outcome.FAIL if row["outcome"] == "loss" else Outcome.PASS
            self.checks.append(Check(f"gate.{row['name']}", bad, f"{row['outcome']}: {change}"))
        if not decision["comparisons"]:
            bad = Outcome.FAIL if verdict == Verdict.REJECT else Outcome.PASS
            self.checks.append(Check("gate.verdict", bad, f"{verdict}: {'; '.join(decision['reasons'])}"))
        self.hooks.note(f"{verdict}: {'; '.join(decision['reasons'])}")
        if name is None:
            return
        facts = {
            "night": self.night.key,
            "decision": {key: decision[key] for key in ("verdict", "comparisons", "reasons")},
        }
        noted = any(entry.get("night") == self.night.key for entry in self.models.log())
        if verdict == Verdict.PROMOTE:
            if self.models.champion != name:
                self.models.promote(bundle, reason="; ".join(decision["reasons"]), facts=facts)
                with RunDirectory.open(self.facts["search"]["run"], read_only=True) as run:
                    track_model(run, bundle, tracker.CHAMPION, say=self.hooks.note)
        elif not noted:
            self.models.refuse(bundle, facts, keep=verdict == Verdict.HOLD)

    def _report(self, error: BaseException | None) -> Json:
        """Write the summary and tell other programs, whatever has happened."""
        missed = [c for c in self.checks if c.name.startswith("expect.") and c.outcome is Outcome.FAIL]
        code = _exit_code(error) if error is not None else ExpectationError.exit_code if missed else 0
        ended, decision = self.hooks.clock(), self.facts.get("decision")
        before = self._last_success()
        state = DONE if error is None else _state(error, decision)
        what = "; ".join(decision["reasons"]) if decision else ""
        text = f"{decision['verdict']}: {what}" if decision else state
        if error is not None:
            text = f"{state}: {str(error) or type(error).__name__}"
        key = self.night.key if self.has_begun else None
        summary: Json = {
            "format": FORMAT, "kind": "evorec nightly", "night": key,
            "number": self.night.number if self.has_begun else None,
            "state": state, "exit_code": code, "text": f"{self.config.problem_name}, night {key}: {text}",
            "began": self.began.isoformat(timespec="seconds"), "ended": ended.isoformat(timespec="seconds"),
            "last_success_s": ended.timestamp() if code == 0 else before,
            "data_sha256": self.problem.data_sha256 if self.has_begun else None,
            "champion": self._champion(), "models": str(self.models.path),
            "bundle": str(self.night.path / BUNDLE) if self.has_begun and (self.night.path / BUNDLE).exists() else None,
            "checks": [check.to_json() for check in self.checks],
            **{name: self.facts.get(name) for name in ("search", "test", "decision", "removed")},
            "seconds": self.watch.now if self.has_begun else {"read": time.monotonic() - self.began_s},
            "version": metadata.version("evorec"),
        }  # fmt: skip
        seconds = sum(summary["seconds"].values())
        name = f"evorec nightly {self.config.problem_name}"
        cases = self.checks
        if error is not None and not any(c.outcome in (Outcome.FAIL, Outcome.ERROR) for c in cases):
            cases = [*cases, Check(f"night.{state}", Outcome.ERROR, str(error) or type(error).__name__)]
        xml = junit_xml(cases, name=name, timestamp=summary["began"], seconds=seconds)
        self._write_prometheus(summary)
        write_output(self.root / JUNIT, xml)
        write_sealed(self.root / SUMMARY, summary)
        if self.has_begun:
            write_output(self.night.path / JUNIT, xml)
            self.night.log("end", state=state, exit_code=code, cause=None if error is None else repr(error))
            self.night.write(SUMMARY, summary)
        if self.webhook and state != "interrupted":
            failure = post(self.webhook, summary, timeout_s=self.config.nightly.webhook_s)
            self.hooks.note(f"warning: the webhook was not told: {failure}" if failure else "the webhook was told")
        if error is None and missed:
            raise ExpectationError("; ".join(check.text for check in missed))
        return summary

    def _write_prometheus(self, summary: Json) -> None:
        file = Path(self.config.nightly.prometheus or self.root / PROMETHEUS)
        succeeded = summary.get("last_success_s", self._last_success())
        text = prometheus_text(
            summary, job=self.config.problem_name, started=self.began.timestamp(), succeeded=succeeded
        )
        try:
            write_output(file, text.encode())
        except OSError as error:
            if disk_is_full(error):
                raise
            self.hooks.note(f"warning: nightly.prometheus: {file}: {error.strerror}")

    def _last_success(self) -> float | None:
        try:
            return read_sealed(self.root / SUMMARY).get("last_success_s") if (self.root / SUMMARY).exists() else None
        except RunError:
            return None

    def _champion(self) -> str | None:
        try:
            return self.models.champion
        except RunError:
            return None


def _exit_code(error: BaseException) -> int:
    if isinstance(error, EvorecError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt) or disk_is_full(error):
        return Interruption.exit_code
    return ConfigError.exit_code if isinstance(error, OSError) else 1


def _state(error: BaseException, decision: Mapping[str, Any] | None) -> str:
    """The end of a night that is not done, in a word."""
    if _exit_code(error) == Interruption.exit_code:
        return "interrupted"
    if decision is None and isinstance(error, DataError):
        return "refused"
    return "failed" if isinstance(error, SearchError) else "errored"
