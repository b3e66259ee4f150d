"""Do `evorec validate` and `evorec search` give the same verdict in the same words?

Configurations and logs are changed at random (with a seed): one to three faults or harmless changes each. Both commands
run on each of them in this process, the search with the fewest steps and a serial worker; a search that runs is also
finalized, because a fault that only `finalize` finds is found too late. Run it with
``python experiments/validate_agrees.py --cases 240``.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, final

import numpy as np
import polars as pl
import typer

from evorec.cli import main as evorec

N_USERS, N_ITEMS, N_ROWS = 30, 24, 700
BASE: Final[dict[str, Any]] = {
    "problem": "feed",
    "constraints": [],
    "objectives": ["accuracy", "recall@k", "catalogue_coverage@k", "cost"],
    "data": {
        "reader": "table",
        "path": ".",
        "statistics": ["user", "item"],
        "log": {
            "files": ["log.csv"], "user": "user", "item": "item", "time": "time",
            "tasks": {"click": "click", "buy": "buy", "rating": "rating"}, "context": {"place": "categorical"},
        },
        "users": {"files": ["users.csv"], "key": "user", "features": {"city": "categorical"}},
        "items": {"files": ["items.csv"], "key": "item", "features": {"genre": "categorical", "price": "numeric"}},
    },
    "tasks": {"ranked": ["click", "buy"], "target": "click"},
    "training": {"steps": 1, "batch_size": 64, "retrieval_batch": 16, "layers": 1},
    "evaluation": {"k": 5, "candidates": 20},
    "search": {"population": 4, "generations": 1},
    "finalize": {"seeds": 1, "bootstrap": 100, "steps": "search", "boosting": False},
    "run": {"workers": 1, "executor": "serial", "output": "runs"},
}  # fmt: skip


@final
@dataclass
class Case:
    """A configuration and its tables, to be changed.

    Attributes:
        config: settings of the file.
        log, users, items: tables.
        changes: what was done to them.
        ragged: values of further lines at the end of the log.
        suffix: of the file of the log; jsonl = JSON lines, of which the last is cut off.
    """

    config: dict[str, Any]
    log: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame
    changes: list[str] = field(default_factory=list)
    ragged: list[list[str]] = field(default_factory=list)
    suffix: str = "csv"

    @classmethod
    def made(cls, rng: random.Random) -> Case:
        """A log that can be searched."""
        draw = np.random.default_rng(rng.randrange(2**32))
        click = draw.random(N_ROWS) < 0.4
        log = pl.DataFrame(
            {
                "user": draw.integers(0, N_USERS, N_ROWS),
                "item": draw.integers(0, N_ITEMS, N_ROWS),
                "time": 1_600_000_000 + np.arange(N_ROWS) * 600,
                "click": click.astype(int),
                "buy": (click & (draw.random(N_ROWS) < 0.5)).astype(int),
                "rating": draw.integers(1, 6, N_ROWS),
                "place": draw.integers(0, 3, N_ROWS),
            }
        )
        users = pl.DataFrame({"user": np.arange(N_USERS), "city": draw.integers(0, 4, N_USERS)})
        items = pl.DataFrame(
            {"item": np.arange(N_ITEMS), "genre": draw.integers(0, 3, N_ITEMS), "price": draw.random(N_ITEMS).round(2)}
        )
        return cls(copy.deepcopy(BASE), log, users, items)

    def set(self, key: str, value: Any) -> None:
        """Set a dotted key; ``None`` removes it."""
        *sections, name = key.split(".")
        place = self.config
        for section in sections:
            place = place.setdefault(section, {})
        if value is None:
            place.pop(name, None)
        else:
            place[name] = value
        self.changes.append(f"{key} = {value!r}")

    def change(self, text: str, **columns: Any) -> None:
        """Replace columns of the log."""
        self.log = self.log.with_columns(**columns)
        self.changes.append(text)

    def write(self, folder: Path) -> Path:
        """The configuration file and its tables."""
        if self.suffix == "csv":
            self.log.write_csv(folder / "log.csv")
            with (folder / "log.csv").open("a") as file:
                file.writelines(",".join(values) + "\n" for values in self.ragged)
        else:
            text = self.log.write_ndjson()
            (folder / "log.jsonl").write_text(text[: text.rstrip().rfind(",")])
        self.users.write_csv(folder / "users.csv")
        self.items.write_csv(folder / "items.csv")
        path = folder / "c.toml"
        path.write_text("\n".join(_toml(self.config)), encoding="utf-8")
        return path


def _toml(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    tables = {name: value for name, value in section.items() if isinstance(value, dict) and not _is_inline(name)}
    for name, value in section.items():
        if name not in tables:
            yield f"{json.dumps(name)} = {_value(value)}"
    for name, value in tables.items():
        yield f"[{prefix}{json.dumps(name)}]"
        yield from _toml(value, f"{prefix}{json.dumps(name)}.")


def _is_inline(name: str) -> bool:
    return name in ("width", "embedding_dim", "dropout")


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_value(part)}" for name, part in value.items()) + "}"
    return "[" + ", ".join(map(_value, value)) + "]" if isinstance(value, list) else json.dumps(value)


SETTINGS: Final[dict[str, tuple[Any, ...]]] = {
    "objectives": (
        ["accuracy", "diversity"], ["acuracy", "recall@k"], ["recall@7", "cost"], ["auc/clik", "cost"], ["beauty"],
        ["cost", "training_flops"], ["accuracy", "recall@k", "gini_diversity@k"], ["mae/buy", "cost"],
        ["gain/buy", "harm/buy"], ["cost_per/buy", "cost"], ["group_gap@k", "accuracy"], ["sparsity", "recall@k"],
        ["attack_shift@k", "accuracy"], ["cold_start_recall@k", "accuracy"], [], ["gauc/buy", "recall@k"], None,
    ),
    "constraints": (
        ["recall@k >= 0.1 * populrity"], ["recall >= 0.1"], ["recall@k => 0.1"], ["recall@k >= 0.0 * popularity"],
        ["beauty >= 1"], ["retrieval_recall@k >= popularity"], ["cost <= 1e30"], ["auc/nap >= 0.1"], None,
    ),
    "data.statistics": (["user", "itm"], ["item+city"], ["user+place"], ["genre", "item"], ["time"], [], None),
    "data.path": ("nowhere", "log.csv", ""),
    "data.log.files": (["events.csv"], ["*.parquet"], ["log.csv", "log.csv"], []),
    "data.log.user": ("usr", "", "time"),
    "data.log.time": ("tme", "place"),
    "data.log.time_unit": ("%Y", "ms", "s", "h"),
    "data.log.missing_ids": ("drop", "refuse", "pad"),
    "data.log.missing_times": ("drop", "refuse", "keep"),
    "data.log.separator": (";", ",", "\t"),
    "data.log.tasks.click": ("click >= 2", "user >= 0", "item", "click == yes", "clik", "rating >= 3", "rating / 5"),
    "data.log.context.place": ("numeric", "multi_hot", "text"),
    "data.log.context.hour": ("categorical",),
    "data.users.key": ("usr", "city"),
    "data.users.features.city": ("numeric", "multi_hot"),
    "data.items.content": (["genre"], ["price"], ["colour"]),
    "data.items.missing": (["0"], ["", "x"]),
    "data.reader": ("tabel", "movielens", "simulator"),
    "tasks.ranked": (["click"], ["click", "rating"], ["nap"], ["click", "click"], [], None, ["buy"]),
    "tasks.target": ("buy", "rating", "nap", ""),
    "tasks.funnel": (["click", "buy"], ["buy", "click"], ["click"], ["click", "nap"]),
    "tasks.kinds.rating": ("regression",),
    "tasks.kinds.buy": ("regression", "numbers"),
    "tasks.given.buy": ("click", "nap", "rating"),
    "tasks.lower_is_better": (["buy"], ["click"], ["nap"]),
    "split.kind": ("leave_last_out", "random", "tme"),
    "split.test_share": (0.3, 0.49, 0.001, 0.6),
    "split.validation_share": (0.3, 0.0005, 0.49),
    "evaluation.k": (1, 24, 50, 0),
    "evaluation.candidates": ("all", 3, 1000),
    "evaluation.groups": ("city", "town"),
    "evaluation.spend": ("buy", "cost"),
    "evaluation.mask": ("positives", "none"),
    "evaluation.users": ("warm", "cold"),
    "evaluation.attack.n_targets": (3, 500),
    "training.batch_size": (2, 100_000, 4096),
    "training.rungs": ([1], [0]),
    "training.precision": ("float64", "bfloat16", "auto", "float16"),
    "training.next_item": (True,),
    "training.uniform_negatives": (0, 4),
    "space.width": (32, 33, {"low": 64, "high": 16}, {"low": 16, "high": 32}, "wide"),
    "space.widht": (32,),
    "space.embedding_dim": (8, {"low": 8, "high": 16}),
    "space.mechanism": ("mmoe", "esmm", "mmeo", ["mmoe", "ple"]),
    "space.use_city": (False, 3),
    "space.use_town": (False,),
    "space.negative_source": ("uniform", "batch"),
    "space.dropout": ({"low": 0.0, "high": 0.9}, 7),
    "box.accuracy": ({"ideal": 0.9, "worst": 0.5}, {"ideal": 0.5, "worst": 0.9}, {"ideal": 0.5}),
    "box.recal": ({"ideal": 1.0, "worst": 0.0},),
    "search.algorithm": ("nsga2", "nsga3", "weighted_sum", "random"),
    "search.options": ({"partitions": 4},),
    "search.weights": ([1, 2], [1, 1, 1, 1]),
    "search.population": (4, 1, 6),
    "finalize.picks": (["knee"], ["recal"], ["best:recall,cost<=1"], ["diversity"], ["knee where"], ["all"]),
    "finalize.seeds": (1, 0),
    "run.device": ("cpu", "cuda:3", "gpu"),
    "run.output": ("log.csv", "new/runs", "log.csv/runs"),
    "run.executor": ("serial", "parallel"),
    "run.memory_gib": (0.001, 3.0, -1),
    "plugins": (["none.py"], []),
    "problem": ("movielens", "fed", "courses", "treatment", "analytic"),
    "trainng.steps": (3,),
}  # fmt: skip
"""Setting -> values that it is given; ``None`` removes it, so that the default of the problem applies."""


def _constant(case: Case, part: slice, label: str, value: int) -> None:
    values = case.log[label].to_numpy().copy()
    values[part] = value
    case.change(f"{label} is {value} in rows {part}", **{label: pl.Series(values)})


TRAIN, VALIDATION, TEST = (
    slice(0, int(0.8 * N_ROWS)), slice(int(0.8 * N_ROWS), int(0.9 * N_ROWS)), slice(int(0.9 * N_ROWS), None),
)  # fmt: skip


def _new_users(case: Case, part: slice) -> None:
    users = case.log["user"].to_numpy().copy()
    users[part] = N_USERS + np.arange(len(users[part]))
    case.users = pl.concat([case.users, pl.DataFrame({"user": np.unique(users[part]), "city": np.int64(1)})])
    case.change(f"only new users in rows {part}", user=pl.Series(users))


def _missing(case: Case, column: str, share: float) -> None:
    is_missing = (pl.int_range(pl.len()) % round(1 / share)) == 1
    case.change(f"{share} of {column} missing", **{column: pl.when(~is_missing).then(pl.col(column))})


def _unreadable(case: Case, share: float, mark: str, *, drop: bool) -> None:
    is_bad = (pl.int_range(pl.len()) % round(1 / share)) == 1
    time = pl.when(is_bad).then(pl.lit(mark)).otherwise(pl.col("time").cast(pl.String))
    case.change(f"{share} of the times are {mark}", time=time)
    if drop:
        case.set("data.log.missing_times", "drop")


def _ragged(case: Case, n_values: int, repair: str | None) -> None:
    case.ragged = [["7"] * n_values] * 5
    case.changes.append(f"5 lines of {n_values} values")
    case.set("data.log.ragged", repair)


def _cut_off(case: Case, *, drop: bool) -> None:
    case.suffix = "jsonl"
    case.set("data.log.files", ["log.jsonl"])
    case.set("data.log.broken", "drop" if drop else None)


def _first_rows(case: Case, n: int) -> None:
    case.log = case.log.head(n)
    case.changes.append(f"{n} rows")


DATA: Final[dict[str, Callable[[Case, random.Random], None]]] = {
    "constant label": lambda case, rng: _constant(
        case, rng.choice((TRAIN, VALIDATION, TEST, slice(None))), rng.choice(("click", "buy")), rng.choice((0, 1))
    ),
    "constant on test": lambda case, rng: _constant(case, TEST, rng.choice(("click", "buy")), rng.choice((0, 1))),
    "new users": lambda case, rng: _new_users(case, rng.choice((VALIDATION, TEST))),
    "missing values": lambda case, rng: _missing(
        case, rng.choice(("user", "item", "time", "click", "buy", "place")), rng.choice((0.02, 0.5))
    ),
    "unreadable times": lambda case, rng: _unreadable(
        case, rng.choice((0.02, 0.5)), rng.choice(("N/A", "0", "-1", "soon", "1600000000000")), drop=rng.random() < 0.7
    ),
    "ragged lines": lambda case, rng: _ragged(case, rng.choice((3, 9)), rng.choice((None, "drop", "pad"))),
    "a cut-off line": lambda case, rng: _cut_off(case, drop=rng.random() < 0.7),
    "few rows": lambda case, rng: _first_rows(case, rng.choice((1, 3, 10, 40))),
    "one time": lambda case, rng: case.change("one time", time=pl.lit(1_600_000_000)),
    "a short log": lambda case, rng: case.change("a row per second", time=1_600_000_000 + pl.int_range(pl.len())),
    "one user": lambda case, rng: case.change("one user", user=pl.lit(3)),
    "one item": lambda case, rng: case.change("one item", item=pl.lit(3)),
    "text ids": lambda case, rng: case.change("text ids", user=pl.format("u {}", pl.col("user"))),
    "labels of three values": lambda case, rng: case.change("buy is 0 to 2", buy=pl.col("buy") * 2),
    "label in words": lambda case, rng: case.change("buy in words", buy=pl.col("buy").cast(pl.String) + "x"),
    "constant feature": lambda case, rng: case.change("one place", place=pl.lit(1)),
    "old times": lambda case, rng: case.change("times of 1970", time=pl.int_range(pl.len())),
    "late times": lambda case, rng: case.change("times in the year 33658", time=pl.col("time") * 1000 * 1000),
}


def mutated(seed: int) -> Case:
    """A case with one to three changes."""
    rng = random.Random(seed)
    case = Case.made(rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.25:
            DATA[rng.choice(sorted(DATA))](case, rng)
        else:
            key = rng.choice(sorted(SETTINGS))
            with contextlib.suppress(AttributeError, TypeError):  # its section was replaced by a value
                case.set(key, rng.choice(SETTINGS[key]))
    return case


@final
@dataclass(frozen=True)
class Verdict:
    """How a command ended: its exit code and its message."""

    code: int | str
    message: str


def verdict(*arguments: str) -> Verdict:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code: int | str = evorec([*arguments, "-q"])
    except Exception as error:
        return Verdict("traceback", f"{type(error).__name__}: {error}")
    return Verdict(code, err.getvalue().strip() if code else "")


@final
@dataclass(frozen=True)
class Comparison:
    """The verdicts on a case."""

    seed: int
    changes: list[str]
    validate: Verdict
    search: Verdict
    finalize: Verdict | None

    @property
    def agrees(self) -> bool:
        """Whether both commands gave the same verdict, and `finalize` then worked."""
        return self.validate == self.search and (self.finalize is None or self.finalize.code == 0)


def compared(seed: int, *, finalize: bool = True) -> Comparison:
    """Both commands on a case."""
    case, folder = mutated(seed), Path(tempfile.mkdtemp(prefix="evorec-agrees-"))
    try:
        with contextlib.chdir(folder):
            path = str(case.write(folder).name)
            checked = verdict("validate", path)
            searched = verdict("search", path)
            final = None
            if finalize and searched.code == 0 and case.config["problem"] != "analytic":
                runs = Path(case.config["run"]["output"])
                run = next(runs.iterdir())
                if any((run / "archive").glob("*/member.json")):
                    final = verdict("finalize", str(run))
    finally:
        shutil.rmtree(folder)
    return Comparison(seed, case.changes, checked, searched, final)


def main(
    cases: Annotated[int, typer.Option(help="Cases to compare.")] = 240,
    first: Annotated[int, typer.Option(help="Seed of the first case.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file of the disagreements and all messages.")] = None,
) -> None:
    """Compare the verdicts, and count those on which both commands differ."""
    start, found = time.process_time(), []
    for seed in range(first, first + cases):
        one = compared(seed)
        found.append(one)
        if not one.agrees:
            print(f"case {seed}: {'; '.join(one.changes)}")
            print(f"  validate {one.validate}\n  search   {one.search}\n  finalize {one.finalize}", flush=True)
    refused = [one for one in found if one.search.code != 0]
    messages = Counter(_kind(one.search.message) for one in refused)
    finalized = sum(one.finalize is not None for one in found)
    print(
        f"{cases} cases: {len(refused)} refused by search with {len(messages)} different messages, {finalized} "
        f"finalized; {sum(not one.agrees for one in found)} disagreements; {time.process_time() - start:.0f} s of CPU"
    )
    if out is not None:
        rows = [asdict(one) for one in found if not one.agrees]
        out.write_text(json.dumps({"messages": dict(messages.most_common()), "disagreements": rows}, indent=1) + "\n")


def _kind(message: str) -> str:
    """The first line of a message without its numbers and paths, to count different messages."""
    line = message.partition("\n")[0]
    return "".join(character for character in line if not character.isdigit())[:90]


if __name__ == "__main__":
    typer.run(main)
