"""What machines do to a search, and whether it survives: deaths, full disks, bad candidates, signals, two starts.

    python experiments/threats.py                          # everything
    python experiments/threats.py kills disk --quick       # parts, with few trials

Every part runs the commands of evorec on a tiny real problem (feed, 12 trainings of 4 steps) or on a problem whose
candidates go wrong, and compares what is left behind with an undisturbed run. Linux only; the full disk is a small
file system in memory, which only root can mount.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dying import Child, End, child, copied, run_command, warm_up
from faulty import DIES, HANGS
from results_file import write_results

from evorec.objectives import without_clock
from evorec.run.ledger import Evaluation

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1"),
    "EVOREC_STAYS": "1",
}
"""One thread; and after a death `faulty` goes on in the process of the search, which costs no imports."""
CONFIG = """problem = "feed"
constraints = []
[data.simulator]
n_users = 80
n_items = 60
n_interactions = 3000
[training]
steps = 4
batch_size = 64
retrieval_batch = 16
[space]
mechanism = "shared_bottom"
width = 16
[search]
population = 4
generations = 3
surrogate = "none"
memory = "none"
[run]
executor = "serial"
min_free_gib = 0.0
[finalize]
seeds = 1
picks = ["knee", "accuracy"]
boosting = false
"""
SEARCH = ("search", "tiny.toml", "-q")
FORMULAS = (
    *("search", "--problem", str(ROOT / "experiments/faulty.py"), "-q", "--set", "run.output=formulas"),
    *("--set", "run.executor=serial", "--set", "run.chunk=4", "--set", "run.min_free_gib=0"),
    *("--set", "search.population=8"),
)
"""A search that trains nothing: the same ledger and archive for a tenth of the time."""
FINALIZE = ("finalize", "RUN", "-q")
EXPORT = ("export", "RUN", "knee", "--out", "bundle", "-q")
FIRST = ("export", "RUN", "accuracy", "--out", "first", "-q")
PROMOTE_FIRST = ("promote", "first", "models", "-q")
PROMOTE = ("promote", "bundle", "models", "--keep", "2", "-q")
ROLLBACK = ("rollback", "models", "-q")
REPORT = ("report", "RUN", "-q")
DONE, USAGE, RESUMABLE, HELD = 0, 2, 75, 99
DISK_MIB = 64
MOST_BYTES = 16384
"""The limit of the size of files, less than weights, ledgers and graphs."""


@dataclass(frozen=True)
class Stage:
    """A command, from the state that the commands before it left behind.

    Attributes:
        name: of the state, too.
        command: its words.
        n_targeted, n_timed: deaths before a change of the disk, spread evenly over all of them (0 = each), and deaths
            at a random time.
    """

    name: str
    command: tuple[str, ...]
    n_targeted: int
    n_timed: int


STAGES = (
    Stage("formulas", FORMULAS, 80, 20),
    Stage("search", SEARCH, 16, 4),
    Stage("finalize", FINALIZE, 10, 3),
    Stage("export", EXPORT, 4, 2),
    Stage("promote", PROMOTE, 0, 10),
    Stage("rollback", ROLLBACK, 0, 5),
    Stage("report", REPORT, 0, 4),
)
"""At least 200 deaths."""


class Lab:
    """Folders with the state before and after every stage, made by undisturbed commands when they are needed.

    Attributes:
        folder: of everything.
        rng: for random moments.
        ends: of the undisturbed stages so far.
        stages: that are tried.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.rng = folder, random.Random(0)
        self.ends: dict[str, End] = {}
        self.stages = STAGES
        fresh = folder / "state"
        fresh.mkdir()
        (fresh / "tiny.toml").write_text(CONFIG)
        warm_up((FORMULAS, SEARCH), copied(fresh, folder / "warm"))

    def reach(self, stage: str) -> None:
        """Run the stages up to this stage, if they did not run yet."""
        state = self.folder / "state"
        for following in STAGES[: 1 + [known.name for known in STAGES].index(stage)]:
            if following.name in self.ends:
                continue
            if len(self.ends) == 2:
                warm_up((FINALIZE, FIRST, PROMOTE_FIRST, REPORT), copied(state, self.folder / "warm"))
            for command in (FIRST, PROMOTE_FIRST) if following.name == "promote" else ():
                self.must(command, state)
            copied(state, self.folder / f"state-{following.name}")
            self.ends[following.name] = self.must(following.command, state)
            copied(state, self.folder / f"after-{following.name}")

    def must(self, command: Sequence[str], folder: Path) -> End:
        """The end of a command that must succeed."""
        end = child(partial(run_command, command), folder)
        assert end.code == DONE, f"{' '.join(command)}: exit code {end.code}\n{end.text}"
        return end

    def before(self, stage: str) -> Path:
        """A fresh copy of the state before a stage."""
        self.reach(stage)
        return copied(self.folder / f"state-{stage}", self.folder / "trial")

    def after(self, stage: str) -> Path:
        """The state after the undisturbed stage, which no trial may change."""
        self.reach(stage)
        return self.folder / f"after-{stage}"


def left_behind(folder: Path) -> dict[str, Any]:
    """All that counts of a state: files by name, rows of the ledger, what the champion is; without times."""
    from evorec.run.directory import RunDirectory

    found: dict[str, Any] = {}
    for path in sorted(file.parent for file in folder.glob("*/*-*/summary.json")):
        with RunDirectory.open(path, read_only=True) as run:
            run.check()
            found[f"rows of {path.name}"] = [timeless(row) for row in run.ledger.evaluations()]
            found[f"test of {path.name}"] = (run.opened or {}).get("picks")
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        name = str(file.relative_to(folder))
        if file.name in ("lock", "log.jsonl", "tiny.toml", "report.html") or "ledger.sqlite" in file.name:
            found[name] = "" if file.name == "report.html" else None
        elif file.name == "final.json":
            found[name] = without_times(json.loads(file.read_text()))
        elif file.name in ("manifest.json", "manifest.sha256", "README.md") and "runs" not in name:
            found[name.replace(file.parent.name, "BUNDLE")] = None  # the card and the manifest have training times
        else:
            found[name.replace(file.parent.name, "BUNDLE") if "models" in name else name] = file.read_bytes()
    if (folder / "models").exists():
        found["champion"] = champion_of(folder)[0]
    return {name: value for name, value in found.items() if value is not None}


def timeless(row: Evaluation) -> Evaluation:
    """A row of the ledger without the fields in which equal runs differ."""
    metrics = None if row.metrics is None else without_clock(row.metrics)
    rungs = [{**rung, "metrics": without_clock(rung["metrics"])} for rung in row.extra.get("rungs", ())]
    return replace(row, seconds=0.0, metrics=metrics, extra={**row.extra, "rungs": rungs})


def without_times(value: Any) -> Any:
    """JSON without times, and without the hashes of files that have some."""
    if isinstance(value, dict):
        gone = ("sha256", "opened_at", "train_seconds", "seconds")
        return {name: without_times(part) for name, part in value.items() if name not in gone}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def champion_of(folder: Path) -> tuple[str, str]:
    """Member and version of the champion, every byte of which is checked."""
    from evorec.serving.bundle import read_bundle

    bundle = read_bundle(folder / "models/champion")
    return str(bundle.manifest["member"]), bundle.version


def check(folder: Path, expected: dict[str, Any], said: str) -> list[str]:
    """Differences of a state from the expected state; in a child, because it opens ledgers."""
    problems: list[str] = []

    def compare() -> int:
        found = left_behind(folder)
        names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        for name in names:
            how = "is missing" if name not in found else "is new" if name not in expected else "differs"
            print(f"{said}: {name} {how}")
        return len(names) > 0

    end = child(compare, folder)
    if end.code:
        problems += end.text.strip().splitlines() or [f"{said}: the comparison ended with {end.code}"]
    return problems


def expected_after(lab: Lab, stage: str) -> dict[str, Any]:
    """What the undisturbed stage left behind, read in a child and handed over as a pickle."""
    state, out = lab.after(stage), lab.folder / "expected"

    def read() -> int:
        out.write_bytes(pickle.dumps(left_behind(state)))
        return 0

    end = child(read, lab.folder)
    assert end.code == DONE, end.text
    return dict(pickle.loads(out.read_bytes()))


def rows_of(folder: Path) -> set[str]:
    """Keys of the evaluations in all ledgers."""
    from evorec.run.ledger import Ledger

    keys: set[str] = set()
    for file in folder.glob("*/*-*/ledger.sqlite"):
        if file.stat().st_size:
            ledger = Ledger(file)
            keys |= {row.key for row in ledger.evaluations()}
            ledger.close()
    return keys


def kills(lab: Lab, *, quick: bool) -> dict[str, Any]:
    """SIGKILL at targeted and random moments of every stage; then the same command again."""
    figures: dict[str, Any] = {}
    problems: list[str] = []
    for stage in lab.stages:
        expected, undisturbed = expected_after(lab, stage.name), lab.ends[stage.name]
        n = undisturbed.n_points
        wanted = n if stage.n_targeted == 0 else min(n, stage.n_targeted)
        wanted = min(wanted, 6) if quick else wanted
        points = sorted({1 + round(i * (n - 1) / max(1, wanted - 1)) for i in range(wanted)})
        moments = [lab.rng.uniform(0, undisturbed.seconds) for _ in range(2 if quick else stage.n_timed)]
        deaths = [(point, None) for point in points] + [(0, moment) for moment in moments]
        n_killed = n_twice = n_identical = n_acknowledged = n_lost = 0
        for number, (point, moment) in enumerate(deaths):
            if number % 20 == 19:
                print(f"{stage.name}: {number + 1} of {len(deaths)}", flush=True)
            folder = lab.before(stage.name)
            end = child(partial(run_command, stage.command), folder, at_point=point, after_s=moment)
            said = f"{stage.name}, death {number} ({f'point {point}' if point else f'after {moment:.2f} s'})"
            assert end.was_killed or not point, f"{said}: exit code {end.code}\n{end.text}"
            n_killed += end.was_killed
            acknowledged = set(end.acknowledged)
            if end.was_killed and number % 3 == 0:  # the process that goes on dies, too
                again = child(partial(run_command, stage.command), folder, at_point=lab.rng.randint(1, n))
                n_twice += again.was_killed
                acknowledged |= again.acknowledged
            found = problems_between(folder, stage.name, acknowledged, said)
            n_acknowledged += len(acknowledged)
            n_lost += any("lost" in problem for problem in found)
            found += finished(folder, stage, expected, said, end)
            n_identical += not found
            problems += found
            if found:
                print("\n".join(found), flush=True)
        figures[stage.name] = {
            "changes_of_the_disk": n, "deaths": len(deaths), "killed": n_killed, "killed_twice": n_twice,
            "identical": n_identical, "acknowledged": n_acknowledged, "runs_with_lost_rows": n_lost,
        }  # fmt: skip
        print(stage.name, figures[stage.name], flush=True)
    total = {key: sum(part[key] for part in figures.values()) for key in ("deaths", "killed", "identical")}
    return {"stages": figures, "all": total, "problems": problems[:20]}


def champion_is_last(folder: Path) -> bool:
    """Whether the champion is still that of the last promotion."""
    return champion_of(folder)[1] == champion_of_log(folder)


def champion_of_log(folder: Path) -> str:
    """Version of the last promotion in the log."""
    entries = [json.loads(line) for line in (folder / "models/log.jsonl").read_text().splitlines()]
    return str([entry["version"] for entry in entries if entry["kind"] == "promote"][-1])


def problems_between(folder: Path, stage: str, acknowledged: set[str], said: str) -> list[str]:
    """What is wrong between a death and the next start: lost rows, a champion that is not whole, half a bundle."""

    def look() -> int:
        if lost := acknowledged - rows_of(folder):
            print(f"{said}: {len(lost)} acknowledged evaluations were lost")
        if (folder / "models").exists():
            champion_of(folder)
        from evorec.serving.bundle import read_bundle

        for name in ("bundle", "first"):
            if (folder / name).exists():
                read_bundle(folder / name)
        return 0

    end = child(look, folder)
    text = end.text.strip()
    return ([text] if text else []) + ([f"{said}: {end.code}"] if end.code and not text else [])


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of `DISK_MIB` in memory."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "evorec-threats", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def disk(lab: Lab, *, quick: bool) -> dict[str, Any]:
    """The disk is full, or the limit of the size of files is reached, from a change of the disk on."""
    if os.geteuid():
        return {"not run": "only root can mount a small file system"}
    figures: dict[str, Any] = {}
    problems: list[str] = []
    causes = {"full disk": "No space left on device", "file size": "File too large"}
    with small_disk(lab.folder / "disk") as mounted:
        trial, ballast = mounted / "trial", mounted / "ballast"

        def fill() -> None:
            with ballast.open("wb", 0) as file:
                try:
                    while file.write(bytes(1 << 16)):
                        pass
                except OSError:
                    while True:  # the last kilobytes
                        try:
                            file.write(bytes(512))
                        except OSError:
                            break

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, resource.RLIM_INFINITY))

        for stage in lab.stages:
            expected, n = expected_after(lab, stage.name), lab.ends[stage.name].n_points
            n_wanted = 3 if quick else 4 if stage.name == "export" else 16
            points = sorted({1 + round(i * (n - 1) / n_wanted) for i in range(n_wanted)})
            for name, cause in causes.items():
                codes: Counter[int] = Counter()
                n_said = n_identical = 0
                for point in points:
                    copied(lab.folder / f"state-{stage.name}", trial)
                    then = fill if name == "full disk" else limit
                    end = child(partial(run_command, stage.command), trial, at_point=point, then=then)
                    ballast.unlink(missing_ok=True)
                    said = f"{stage.name}, {name} from point {point} on"
                    codes[end.code] += 1
                    # SQLite names no cause at the limit of the size of files.
                    says = end.code == DONE or (
                        end.code == RESUMABLE and (cause in end.text or "; make room and" in end.text)
                    )
                    n_said += end.code != DONE and says
                    found = [] if says else [f"{said}: exit code {end.code}: {end.text.strip()[-300:]}"]
                    found += problems_between(trial, stage.name, set(end.acknowledged), said)
                    found += finished(trial, stage, expected, said, end)
                    n_identical += not found
                    problems += found
                codes_text = {str(code): count for code, count in sorted(codes.items())}
                figures.setdefault(stage.name, {})[name] = {
                    "trials": len(points), "exit_codes": codes_text, "said_why": n_said, "identical": n_identical
                }  # fmt: skip
                print(stage.name, name, figures[stage.name][name], flush=True)
    return {"stages": figures, "problems": problems[:20]}


def finished(folder: Path, stage: Stage, expected: dict[str, Any], said: str, end: End) -> list[str]:
    """What is wrong after the same command again: it must succeed and leave behind what was expected."""
    command = stage.command
    if stage.name == "rollback" and (end.code == DONE or not champion_is_last(folder)):
        command = ("front", "RUN", "-q")  # a second rollback would go back further
    last = child(partial(run_command, command), folder)
    is_done = last.code == USAGE and "exists already" in last.text  # a bundle that is whole is not written twice
    found = [] if last.code == DONE or is_done else [f"{said}: then {last.code}: {last.text.strip()[-300:]}"]
    return found + check(folder, expected, said)


FAULTY = ("search", "--problem", str(ROOT / "experiments/faulty.py"), "-q")
STALL_S = 6.0
"""Seconds without a sign of life after which a candidate hangs."""
MOST_STARTS = 3
LEAST_S, MOST_S = 5.0, 10.0
"""A worker may outlive its parent so long, and a command a signal."""


def faulty_search(folder: Path, *settings: str, **variables: str) -> Child:
    """A search whose candidates go wrong, begun in a child; its variables lead to the log of starts.

    Args:
        folder: of the run, made if need be.
        settings: of the search.
        variables: ``FAULTS`` and ``SECONDS``, see `faulty`.
    """
    folder.mkdir(exist_ok=True)

    def run() -> int:
        os.environ.pop("EVOREC_STAYS")
        os.environ |= {"EVOREC_STARTS": str(folder / "starts"), MARK: str(folder)}
        os.environ |= {f"EVOREC_{name}": value for name, value in variables.items()}
        return run_as_program([*FAULTY, *(word for text in settings for word in ("--set", text))])

    return Child(run, folder)


def run_as_program(words: Sequence[str]) -> int:
    """Exit code of a command with the handling of signals that the program has."""
    from evorec.cli.app import main

    sys.argv = ["evorec", *words]
    return main()


def lines_of(folder: Path) -> list[str]:
    """Lines of the log of starts, which may not be there yet."""
    file = folder / "starts"
    return file.read_text().splitlines() if file.exists() else []


def starts_of(folder: Path) -> tuple[Counter[str], dict[str, str], int]:
    """Starts by candidate, their kinds, and the number of candidates that began again although they had ended."""
    began: Counter[str] = Counter()
    kinds: dict[str, str] = {}
    ended: set[str] = set()
    again: set[str] = set()
    for line in lines_of(folder):
        what, key, kind, *_ = line.split("\t")
        if what == "end":
            ended.add(key)
            continue
        began[key] += 1
        kinds[key] = kind
        if key in ended:
            again.add(key)
    return began, kinds, len(again)


def ledger_of(folder: Path) -> tuple[list[Any], list[str]]:
    """Rows of the run without seconds, and keys of its members; read in a child."""
    out = folder / "read"

    def read() -> int:
        from evorec.run.directory import RunDirectory

        (path,) = folder.glob("runs/*-*")
        with RunDirectory.open(path, read_only=True) as run:
            rows = [timeless(row) for row in run.ledger.evaluations()]
            out.write_bytes(pickle.dumps((rows, sorted(row.key for row in run.members()))))
        return 0

    end = child(read, folder)
    assert end.code == DONE, end.text
    rows, members = pickle.loads(out.read_bytes())
    return list(rows), list(members)


CAUSES = {
    "raises": "ValueError: this candidate always raises",
    "diverges": "the loss is not finite",
    "nan": "metric quality is nan",
    "allocates": "MemoryError",
    "is killed": "died of SIGKILL",
    "exits": "died of exit code 3",
    "crashes": "died of SIGSEGV",
    "sleeps": "no progress for",
    "computes": "no progress for",
}
"""What the ledger must say about each kind of candidate."""


def candidates(lab: Lab, *, quick: bool) -> dict[str, Any]:
    """Half of the candidates go wrong, in nine ways; on processes, and in the process of the search itself."""
    problems: list[str] = []
    plain = lab.folder / "plain"
    assert faulty_search(plain, "run.executor=serial", FAULTS="plain").end().code == DONE
    rows, members = ledger_of(plain)
    failed = sum(row.metrics is None for row in rows)
    figures: dict[str, Any] = {"candidates": len(rows), "at_fault": failed}
    stall = f"run.stall_minutes={STALL_S / 60}"
    for executor in ("processes",) if quick else ("processes", "serial", "auto"):
        folder, starts, began_s = lab.folder / executor, 0, time.monotonic()
        code, watched = None, Watch(folder)
        while code != DONE and starts < 40:
            starts += 1
            running = faulty_search(folder, f"run.executor={executor}", "run.workers=2", stall, FAULTS="all")
            with watched.of(running, asks_after_s=None if executor == "processes" else 4 * STALL_S):
                end = running.end()
            code = end.code
            if code not in (DONE, RESUMABLE) and code > 0 and code != 3:
                problems.append(f"{executor}: exit code {code}: {end.text[-300:]}")
                break
        found, found_members = ledger_of(folder)
        began, kinds, _ = starts_of(folder)
        by_key = {row.key: row for row in found}
        wrong = [row for row in rows if (by_key[row.key].metrics is None) != (row.metrics is None)]
        problems += [f"{executor}: {row.key} is {by_key[row.key].failure}, expected {row.failure}" for row in wrong]
        if members != found_members:
            problems.append(f"{executor}: another archive")
        of_kind = {kind: sum(k == kind for k in kinds.values()) for kind in CAUSES}
        said = {kind: sum(CAUSES[kind] in (row.failure or "") for row in found) for kind in CAUSES}
        died = [row.failure for row in found if row.failure and "starts)" in row.failure]
        figures[executor] = {
            "starts_of_the_command": starts, "seconds": time.monotonic() - began_s,
            "same_archive": members == found_members,
            "candidates_by_kind": of_kind, "rows_that_say_so": said, "deaths_recorded": len(died),
            "most_starts_of_a_deadly_candidate": max(n for key, n in began.items() if kinds[key] in (*DIES, *HANGS)),
            "seconds_until_a_hanging_candidate_was_cut": watched.summary(),
        }  # fmt: skip
        print(executor, figures[executor], flush=True)
    return {**figures, "problems": problems[:20]}


class Watch:
    """How long hanging candidates live, from the log of starts and the processes of the machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seconds = folder, list[float]()
        self._known: set[tuple[str, str]] = set()

    @contextmanager
    def of(self, running: Child, *, asks_after_s: float | None) -> Iterator[None]:
        """Watch while a search runs; a search that has no workers gets SIGTERM after some seconds."""
        ended = threading.Event()
        thread = threading.Thread(target=self._look, args=(running, ended, asks_after_s))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _look(self, running: Child, ended: threading.Event, asks_after_s: float | None) -> None:
        alive: dict[int, float] = {}
        while not ended.wait(0.02):
            if asks_after_s is not None and time.monotonic() - running.began > asks_after_s:
                with suppress(ProcessLookupError):
                    running.send(signal.SIGTERM)
                asks_after_s = None
            for line in lines_of(self.folder):
                what, key, kind, pid, clock = line.split("\t")
                if what == "begin" and kind in HANGS and (key, clock) not in self._known:
                    self._known.add((key, clock))
                    alive[int(pid)] = float(clock)
            for pid in [pid for pid in alive if not is_alive(pid)]:
                self.seconds.append(time.time() - alive.pop(pid))

    def summary(self) -> dict[str, float]:
        """Number, median and longest."""
        ordered = sorted(self.seconds)
        return {"n": len(ordered), "median": ordered[len(ordered) // 2], "longest": ordered[-1]} if ordered else {}


MARK = "EVOREC_THREATS"
"""Variable that the processes of a trial inherit."""


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def marked(folder: Path) -> list[int]:
    """Processes that were started by a trial in this folder, after an exec: they have its mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if f"{MARK}={folder}\0".encode() in (entry / "environ").read_bytes() and is_alive(int(entry.name)):
                    found.append(int(entry.name))
    return found


def workers(lab: Lab, *, quick: bool) -> dict[str, Any]:
    """SIGKILL for random workers during searches on two processes: only lost stacks run again."""
    problems: list[str] = []
    settings = ("run.executor=processes", "run.workers=2", "run.chunk=4", "search.generations=6")
    expected = lab.folder / "unharmed"
    assert faulty_search(expected, *settings, FAULTS="none", SECONDS="0.05").end().code == DONE
    rows, members = ledger_of(expected)
    n_kills = n_lost = n_started = n_again = most = same = 0
    n_trials = 1 if quick else 6
    for trial in range(n_trials):
        folder = lab.folder / f"harmed{trial}"
        running = faulty_search(folder, *settings, FAULTS="none", SECONDS="0.05")
        ended = threading.Event()
        counts = [0]

        def harm(folder: Path = folder, ended: threading.Event = ended, counts: list[int] = counts) -> None:
            while not ended.wait(lab.rng.uniform(0.5, 2.5)):
                trained = {int(line.split("\t")[3]) for line in lines_of(folder)}  # a worker that starts is left alone
                if (found := [pid for pid in marked(folder) if pid in trained]) and counts[0] < 4:
                    with suppress(ProcessLookupError):
                        os.kill(lab.rng.choice(found), signal.SIGKILL)
                        counts[0] += 1

        thread = threading.Thread(target=harm)
        thread.start()
        end = running.end()
        ended.set()
        thread.join()
        found, found_members = ledger_of(folder)
        began, _, again = starts_of(folder)
        n_kills += counts[0]
        n_started += sum(began.values())
        n_lost += sum(began.values()) - len(began)
        n_again += again
        most = max(most, *began.values())
        same += (found, found_members) == (rows, members)
        if end.code or (found, found_members) != (rows, members):
            problems.append(f"workers, trial {trial}: exit code {end.code}, another archive: {end.text[-300:]}")
    return {
        "searches": n_trials, "candidates": len(rows) * n_trials, "workers_killed": n_kills,
        "evaluations_begun": n_started,
        "begun_again": n_lost, "begun_again_after_an_end": n_again, "most_starts": most, "identical": same,
        "problems": problems,
    }  # fmt: skip


def orphans(lab: Lab, *, quick: bool) -> dict[str, Any]:
    """SIGKILL for the search: its workers end, whatever they do, and the next start takes the lock at once."""
    figures: dict[str, Any] = {}
    problems: list[str] = []
    settings = ("run.executor=processes", "run.workers=2", "run.stall_minutes=60")
    for doing, faults in (("train", "none"), ("sleep", "sleeps"), ("hold the GIL", "computes")):
        seconds: list[float] = []
        for trial in range(2 if quick else 8):
            folder = lab.folder / f"orphans-{faults}{trial}"
            running = faulty_search(folder, *settings, FAULTS=faults, SECONDS="0.3")
            wanted = faults if faults != "none" else "begin"
            while not any(wanted in line for line in lines_of(folder)):
                time.sleep(0.01)
            time.sleep(lab.rng.uniform(0, 1))
            survivors = marked(folder)
            running.send(signal.SIGKILL)
            began = time.monotonic()
            running.end()
            while (left := [pid for pid in survivors if is_alive(pid)] + marked(folder)) and (
                time.monotonic() - began < 60
            ):
                time.sleep(0.005)
            seconds.append(time.monotonic() - began)
            if left:
                problems.append(f"orphans, {doing}: {len(left)} workers are alive after a minute")
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
            assert survivors, "there was no worker"
            again = child(partial(run_command, ["runs", "--format", "json"]), folder)
            if '"held": true' in again.text or again.code:
                problems.append(f"orphans, {doing}: the lock is held after the death: {again.text[-300:]}")
        figures[f"workers_that_{doing.replace(' ', '_')}"] = {"kills": len(seconds), "longest_s": max(seconds)}
        if max(seconds) > LEAST_S:
            problems.append(f"orphans, {doing}: {max(seconds):.1f} s")
    return {**figures, "problems": problems}


def signals(lab: Lab, *, quick: bool) -> dict[str, Any]:
    """A signal at a random moment of every command, and while a candidate hangs; exit code and seconds."""
    figures: dict[str, Any] = {}
    problems: list[str] = []
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
    for stage in lab.stages:
        expected, seconds, codes, same = expected_after(lab, stage.name), list[float](), Counter[int](), 0
        n_trials = 2 if quick else 4 if stage.name == "export" else 8
        for trial in range(n_trials):
            folder, number = lab.before(stage.name), numbers[trial % len(numbers)]
            running = Child(partial(run_as_stage, stage.command), folder)
            time.sleep(lab.rng.uniform(0.02, lab.ends[stage.name].seconds))
            with suppress(ProcessLookupError):
                running.send(number)
            sent = time.monotonic()
            end = running.end()
            seconds.append(max(0.0, running.began + end.seconds - sent))
            codes[end.code] += 1
            said = f"{stage.name}, {number.name}"
            found = [] if end.code in (DONE, RESUMABLE) else [f"{said}: exit code {end.code}: {end.text[-300:]}"]
            found += finished(folder, stage, expected, said, end)
            same += not found
            problems += found
        figures[stage.name] = {
            "signals": n_trials, "exit_codes": {str(code): n for code, n in sorted(codes.items())},
            "longest_s": max(seconds), "identical": same,
        }  # fmt: skip
        print(stage.name, figures[stage.name], flush=True)
    for executor in ("serial", "threads", "processes"):
        for kind in ("sleeps", "computes") if executor == "processes" else ("sleeps",):
            for second_s in (None, 0.3):
                folder = lab.folder / f"signal-{executor}-{kind}-{second_s}"
                settings = (f"run.executor={executor}", "run.workers=2", "run.stall_minutes=60")
                running = faulty_search(folder, *settings, FAULTS=kind)
                while not any(kind in line for line in lines_of(folder)):
                    time.sleep(0.01)
                running.send(signal.SIGTERM)
                sent = time.monotonic()
                if second_s is not None:
                    time.sleep(second_s)
                    running.send(signal.SIGTERM)
                end = running.end()
                took = running.began + end.seconds - sent
                name = f"{executor}, a candidate {kind}, {'two signals' if second_s else 'one signal'}"
                figures[name] = {"exit_code": end.code, "seconds": took}
                if end.code != RESUMABLE or took > MOST_S:
                    problems.append(f"{name}: exit code {end.code} after {took:.1f} s")
    return {**figures, "problems": problems[:20]}


def run_as_stage(words: Sequence[str]) -> int:
    """A command of a stage as the program runs it."""
    runs = sorted(path for path in Path("runs").glob("*-*") if path.is_dir()) if "RUN" in words else []
    return run_as_program([str(runs[0]) if word == "RUN" else word for word in words])


def surroundings(lab: Lab, *, quick: bool) -> dict[str, Any]:
    """Two starts at once, clocks, folders: a defined result each."""
    figures: dict[str, Any] = {}
    problems: list[str] = []
    expected = expected_after(lab, "search")

    n_pairs, codes, same = 2 if quick else 20, Counter[str](), 0
    for pair in range(n_pairs):
        folder = lab.before("search")
        both = [Child(partial(run_command, SEARCH), folder) for _ in range(2)]
        ends = [running.end() for running in both]
        codes[" and ".join(map(str, sorted(end.code for end in ends)))] += 1
        found = check(folder, expected, f"two starts, pair {pair}")
        found += [end.text[-300:] for end in ends if end.code not in (DONE, HELD)]
        same += not found
        problems += found
    figures["two starts at once"] = {"pairs": n_pairs, "exit_codes": dict(codes), "identical": same}

    def backwards(words: Sequence[str]) -> int:
        """A command while the clock of the machine goes back an hour at every look, over a change to winter time."""
        import datetime as module

        os.environ["TZ"] = "Europe/Berlin"
        time.tzset()
        now = [1_792_893_600.0]  # 25 October 2026, 03:00 summer time, when the hour from 2 to 3 begins again

        class Clock(module.datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return cls.fromtimestamp(time.time(), tz)

        def tick() -> float:
            now[0] -= 3600
            return now[0]

        time.time = tick
        for part in [part for name, part in sys.modules.items() if name.startswith("evorec.")]:
            if getattr(part, "datetime", None) is module.datetime:
                part.datetime = Clock
        return run_command(words)

    for stage in STAGES[1:2] if quick else lab.stages:
        folder = lab.before(stage.name)
        end = child(partial(backwards, stage.command), folder)
        found = [] if end.code == DONE else [f"clock, {stage.name}: exit code {end.code}: {end.text[-300:]}"]
        found += check(folder, expected_after(lab, stage.name), f"clock, {stage.name}")
        problems += found
        figures[f"clock set back, {stage.name}"] = "identical" if not found else "another result"

    def as_nobody(words: Sequence[str]) -> int:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        return run_command(words)

    folder, out = lab.before("search"), lab.folder / "writable"
    lab.folder.chmod(0o755)
    folder.chmod(0o555)
    out.mkdir()
    out.chmod(0o777)
    end = child(partial(as_nobody, SEARCH), folder)
    figures["read-only folder"] = {"exit_code": end.code, "says": end.text.strip().replace(str(lab.folder), "...")}
    if end.code != USAGE or "Permission denied" not in end.text:
        problems.append(f"read-only folder: exit code {end.code}: {end.text[-300:]}")
    end = child(partial(as_nobody, [*SEARCH, "--set", f"run.output={out}/runs"]), folder)
    figures["read-only folder of the configuration, runs elsewhere"] = {"exit_code": end.code}
    problems += check(out, expected, "read-only configuration") if end.code == DONE else [end.text[-300:]]

    for name in ("Nächte 夜 'q' $x [1]", os.fsdecode(b"n\xffcht")):
        odd = copied(lab.folder / "state-search", lab.folder / name)
        found = []
        for command in (SEARCH, FINALIZE) if quick else (SEARCH, FINALIZE, FIRST, PROMOTE_FIRST, REPORT):
            end = child(partial(run_command, command), odd)
            if end.code:
                found.append(f"folder {name!r}, {command[0]}: exit code {end.code}: {end.text[-300:]}")
        problems += found
        figures[f"folder {name!r}"] = "done" if not found else "refused"

    for how in ("deleted", "made again"):

        def lose(how: str = how) -> None:
            (path,) = Path("runs").glob("*-*")
            shutil.rmtree(path)
            if how == "made again":
                shutil.copytree(next(lab.after("search").glob("runs/*-*")), path)

        codes_of, n_same, n_points = Counter[int](), 0, lab.ends["search"].n_points
        wanted = 3 if quick else 12
        for number in range(wanted):
            folder = lab.before("search")
            point = 12 + number * (n_points - 14) // wanted
            end = child(partial(run_command, SEARCH), folder, at_point=point, then=lose)
            codes_of[end.code] += 1
            said = f"run {how} at point {point}"
            found = [] if end.code == USAGE else [f"{said}: exit code {end.code}: {end.text[-300:]}"]
            last = child(partial(run_command, SEARCH), folder)
            found += [] if last.code == DONE else [f"{said}: then {last.code}: {last.text[-300:]}"]
            found += check(folder, expected, said)
            n_same += not found
            problems += found
        figures[f"run directory {how}"] = {
            "trials": wanted, "exit_codes": {str(code): n for code, n in codes_of.items()},
            "identical_afterwards": n_same,
        }  # fmt: skip

    folder = lab.before(
        "finalize"
    )  # a lock file of a machine that has restarted: its number is that of another process
    (path,) = folder.glob("runs/*-*")
    (path / "lock").write_text("process 1 on this machine\n")
    end = child(partial(run_command, FINALIZE), folder)
    figures["lock file that names a living process"] = {"exit_code": end.code}
    problems += [] if end.code == DONE else [f"lock: exit code {end.code}: {end.text[-300:]}"]
    return {**figures, "problems": problems[:20]}


NIGHT = ("nightly", "night.toml", "-q")
SECOND_NIGHT = (*NIGHT, "--set", "search.seed=1")
"""Other settings are another night of the same day; this one has a champion to beat."""
NIGHT_CONFIG = (
    CONFIG.replace('seeds = 1\npicks = ["knee", "accuracy"]', "seeds = 2\npicks = []")
    + """[nightly]
latency_ms = 0.0
"""
)


def nights(lab: Lab, *, quick: bool) -> dict[str, Any]:
    """SIGKILL at targeted and random moments of whole nights, some of them twice; then the same command again."""
    figures: dict[str, Any] = {}
    problems: list[str] = []
    state = lab.folder / "nights"
    state.mkdir()
    (state / "night.toml").write_text(NIGHT_CONFIG)
    warm_up((NIGHT,), copied(state, lab.folder / "warm"))
    for name, command, n_targeted, n_timed in (("first", NIGHT, 24, 6), ("second", SECOND_NIGHT, 8, 2)):
        before = copied(state, lab.folder / f"state-{name}-night")
        undisturbed, n_identical, n_killed = lab.must(command, state), 0, 0
        expected, n = night_left_behind(state), undisturbed.n_points
        wanted = 2 if quick else n_targeted
        deaths = [(1 + round((i + 0.5) * (n - 1) / wanted), None) for i in range(wanted)]
        deaths += [(0, lab.rng.uniform(0, undisturbed.seconds)) for _ in range(1 if quick else n_timed)]
        for number, (point, moment) in enumerate(deaths):
            folder = copied(before, lab.folder / "trial")
            end = child(partial(run_command, command), folder, at_point=point, after_s=moment)
            n_killed += end.was_killed
            said = f"{name} night, death {number} ({f'point {point}' if point else f'after {moment:.2f} s'})"
            if number % 4 == 0:
                child(partial(run_command, command), folder, at_point=lab.rng.randint(1, n))
            found = []
            if (folder / "nightly/models/champion").exists():
                found += problems_of_champion(folder / "nightly", said)
            last = child(partial(run_command, command), folder)
            if last.code not in (DONE, HELD):  # 99: the night was done before its process died
                found.append(f"{said}: then exit code {last.code}: {last.text.strip()[-300:]}")
            again = child(partial(run_command, command), folder)
            if again.code != HELD:
                found.append(f"{said}: a third start ended with {again.code}, not with {HELD}")
            left = night_left_behind(folder)
            different = [key for key in sorted(left.keys() | expected.keys()) if left.get(key) != expected.get(key)]
            found += [f"{said}: {key} differs" for key in different]
            n_identical += not found
            problems += found
        figures[name] = {
            "changes_of_the_disk": n, "deaths": len(deaths), "killed": n_killed, "identical": n_identical,
            "verdict": expected["verdict"],
        }  # fmt: skip
        print(name, figures[name], flush=True)
    return {**figures, "problems": problems[:20]}


def problems_of_champion(folder: Path, said: str) -> list[str]:
    """Whether the champion of a folder is whole."""
    end = child(lambda: bool(champion_of(folder)[1]) - 1, folder)
    return [f"{said}: the champion is damaged: {end.text[-300:]}"] if end.code else []


def night_left_behind(folder: Path) -> dict[str, Any]:
    """All that counts of the last night, without times: rows, members, models, verdict, champion, log; in a child."""
    out = folder / "night.pickle"

    def read() -> int:
        from evorec.nightly.folder import nights as all_nights
        from evorec.run.directory import RunDirectory

        found: dict[str, Any] = {}
        done = all_nights(Path("nightly"))
        night = done[-1]
        assert night.search is not None
        with RunDirectory.open(night.search, read_only=True) as run:
            run.check()
            found["rows"] = [timeless(row) for row in run.ledger.evaluations()]
            found["members"] = [row.key for row in run.members()]
            found["final"] = without_times(run.read_final())
            files = [*night.search.glob("archive/*/*"), *night.search.glob("final/*/*")]
            found["files"] = {str(file.relative_to(night.search)): file.read_bytes() for file in sorted(files)}
        timed = ("manifest.json", "manifest.sha256", "README.md")
        bundle = sorted(file for file in (night.path / "bundle").iterdir() if file.name not in timed)
        found["bundle"] = {file.name: file.read_bytes() for file in bundle}
        decision = night.decision or {}
        found |= {name: decision.get(name) for name in ("verdict", "comparisons", "reasons", "noise")}
        found["states"] = [(known.summary or {}).get("state") for known in done]
        found["champion"] = champion_of(Path("nightly"))[0]
        log = Path("nightly/models/log.jsonl").read_text().splitlines()
        found["log"] = [json.loads(line)["kind"] for line in log]
        out.write_bytes(pickle.dumps(found))
        return 0

    end = child(read, folder)
    assert end.code == DONE, end.text
    return dict(pickle.loads(out.read_bytes()))


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "kills": kills, "disk": disk, "candidates": candidates, "workers": workers, "orphans": orphans, "signals": signals,
    "surroundings": surroundings, "nights": nights,
}  # fmt: skip


def main() -> None:
    """Run parts and write their figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few trials")
    parser.add_argument("--stages", nargs="+", choices=[stage.name for stage in STAGES], help="default: all")
    parser.add_argument("--folder", type=Path, help="for all files, e.g. /dev/shm; default: that of the system")
    parser.add_argument("--out", type=Path, default=ROOT / "experiments/results/threats.json")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):  # before anything is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    figures = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    with tempfile.TemporaryDirectory(prefix="evorec-threats-", dir=arguments.folder) as folder:
        lab = Lab(Path(folder))
        lab.stages = tuple(stage for stage in STAGES if not arguments.stages or stage.name in arguments.stages)
        for name in arguments.parts or PARTS:
            start = time.monotonic()
            figures[name] = {**PARTS[name](lab, quick=arguments.quick), "minutes": (time.monotonic() - start) / 60}
            print(name, json.dumps(figures[name], indent=1), flush=True)
            if not arguments.quick:
                write_results(arguments.out, figures)
    broken = [problem for name in arguments.parts or PARTS for problem in figures[name].get("problems", ())]
    sys.exit("\n".join(broken) if broken else 0)


if __name__ == "__main__":
    main()
