"""Remarkable facts about a data set as sentences: errors, misleading figures, and facts worth knowing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import polars as pl

from evorec.config import COOCCURRENCE, TasksConfig
from evorec.data.describe import Description
from evorec.data.leaks import Leak
from evorec.data.readers import Origin
from evorec.data.splits import SHORTEST_HISTORY
from evorec.report.table import counted, show_share

Level = Literal["warning", "note"]
"""warning = something is probably wrong, or a figure will mislead; note = worth knowing."""

FEW: Final = 100
"""Fewer rows of a class, or users, than this leave a metric uncertain by about 0.05 (`_uncertainty`)."""
MANY_NEW: Final = 0.2
"""Share of rows with a new user or item from which on it is a warning."""
MANY_NEW_IDS: Final = 0.5
"""The same for the share of the users or items themselves."""
MANY_REPEATS: Final = 0.01
HEAVY: Final = 0.05
"""Share of all rows of a single user from which on the user looks like a machine."""
MANY_USERS: Final = 100
"""In a log with fewer users, a single user may well have a large share of the rows."""
DRIFT: Final = 1.5
"""Ratio of a label's rates in two parts that is worth a sentence."""
MOSTLY: Final = 0.5
SIMILAR: Final = 0.01
"""Mean cosine distance below which vectors hardly distinguish items."""
EQUAL: Final = 1e-6
"""Mean cosine distance below which vectors differ by rounding only."""
OLDEST_S: Final = 631_152_000
"""1990-01-01 UTC: hardly any log is older, and milliseconds read as seconds fall into January 1970."""
MAX_NAMED: Final = 5
MAX_ID: Final = 60
"""Characters of an id that are shown; an id may be a whole text."""


@final
@dataclass(frozen=True)
class Finding:
    """A sentence about the data that a careful person wants to know before a search."""

    level: Level
    text: str


def findings(
    found: Description, source: Origin, tasks: TasksConfig, *, now_s: int, notes: Sequence[str] = ()
) -> tuple[Finding, ...]:
    """All remarkable facts, warnings first.

    Args:
        found: the facts.
        source: origin of the log.
        tasks: learned labels.
        now_s: seconds since 1970-01-01 UTC; a later row is a mistake.
        notes: further sentences, `evorec.data.remarks`.
    """
    everything = [
        *map(_note, notes),
        *_source(source),
        *_split(found),
        *_names(found, tasks),
        *_time(found, now_s),
        *(finding for label in found.labels.partition_by("label") for finding in _label(label, tasks)),
        *_funnel(found, tasks),
        *_held_out(found, tasks),
        *_ids(found),
        *_features(found),
        *(_finding(str(Leak(*row))) for row in found.leaks.rows()),
        *_content(found),
    ]
    return tuple(sorted(everything, key=lambda finding: finding.level != "warning"))


def repeated_columns(found: Description) -> str:
    """The columns in which a repeated row equals an earlier row, in words."""
    if not found.facts["n_items"]:
        return "every feature and label"
    return "user, item and time" if found.facts["times"] == "seconds" else "user and item"


def _finding(text: str, *, warning: bool = True) -> Finding:
    return Finding("warning" if warning else "note", text)


def _note(text: str) -> Finding:
    return Finding("note", text)


def _source(source: Origin) -> Iterator[Finding]:
    for n, why in (
        (source.n_missing_ids, "have no user or no item"),
        (source.n_missing_times, "have no time that can be read"),
        (source.n_duplicates, "repeat another row"),
    ):
        if n:
            text = f"{counted(n, 'row')} ({show_share(n / source.n_read)}) of the files {why} and were dropped"
            yield _finding(text, warning=n >= MANY_REPEATS * source.n_read)
    yield from map(_note, source.notes)


def _split(found: Description) -> Iterator[Finding]:
    if error := found.facts["split_error"]:
        yield _finding(f"the log cannot be split, so it is described as a whole: {error}")
        return
    if (kind := found.facts["split_kind"]) != "time" and found.facts["times"] == "seconds":
        yield _note(
            f"a {kind.replace('_', '-')} split: training contains rows that are later than rows of validation and test"
        )
    few = [f"{name} has only {counted(n, 'row')}" for name, n in found.parts.select("part", "n_rows").rows() if n < FEW]
    if few:
        yield _finding(f"{_and(few)}; every figure on so few will be rough")


def _names(found: Description, tasks: TasksConfig) -> Iterator[Finding]:
    known = list(dict.fromkeys(found.labels["label"]))
    for key, names in {"ranked": tasks.ranked, "target": tuple(filter(None, [tasks.target]))}.items():
        if unknown := [name for name in names if name not in known]:
            yield _finding(f"tasks.{key} names {', '.join(unknown)}, which is not a label; the data have {_few(known)}")
        elif key == "target" and not found.facts["n_items"]:
            continue
        elif not names and not (key == "ranked" and tasks.target):  # retrieval only is a note of its own
            yield _finding(f"tasks.{key} is empty; the data have the labels {_few(known)}")


def _time(found: Description, now_s: int) -> Iterator[Finding]:
    facts = found.facts
    repeated = repeated_columns(found).replace("time", "timestamp")
    n_rows, n_repeated, n_identical = facts["n_rows"], facts["n_repeated"], facts["n_identical"]
    if facts["times"] != "seconds":
        pass
    elif facts["n_times"] == 1:
        yield _finding(f"all timestamps are equal ({facts['first']}), so rows have no order and no split by time")
    else:
        if facts["first_s"] < OLDEST_S:
            yield _finding(
                f"the earliest row is of {_day(facts['first'])}: is the unit of the timestamps right? A text that "
                'stands for no time belongs in data.log.missing; data.log.missing_times = "drop" leaves out its rows'
            )
        if facts["last_s"] > now_s:
            yield _finding(
                f"the latest row is of {_day(facts['last'])}, in the future: is the unit or the time zone right?"
            )
        if facts["whole_days"]:
            yield _note("the timestamps are whole days: rows of a day have the order of the file")
        elif facts["n_tied"] >= MANY_REPEATS * n_rows:
            yield _note(
                f"{show_share(facts['n_tied'] / n_rows)} of the rows have the timestamp of an earlier row of their "
                "user: the order of the file decides"
            )
        if facts["split_kind"] == "time" and (empty := facts["n_empty_days"]):
            yield _note(
                f"{counted(empty, 'day')} of {facts['n_days']:,} between the first and the last row have no rows"
            )
    if n_repeated:
        if not facts["n_items"]:
            yield _note(
                f"duplicates: {counted(n_repeated, 'row')} ({show_share(n_repeated / n_rows)}) repeat {repeated} of an "
                "earlier row"
            )
            return
        same = f"{n_identical:,} of them equal in every label and context too, the others with other labels or context"
        if n_identical in (0, n_repeated):
            same = "equal in every label and context too" if n_identical else "all of them with other labels or context"
        yield _finding(
            f"duplicates: {counted(n_repeated, 'row')} ({show_share(n_repeated / n_rows)}) repeat {repeated} of "
            f"an earlier row, {same}",
            warning=n_repeated >= MANY_REPEATS * n_rows,
        )


def _label(parts: pl.DataFrame, tasks: TasksConfig) -> Iterator[Finding]:
    """Findings about a label; ``parts`` has a row per part."""
    rows = parts.to_dicts()
    label, use, binary = rows[0]["label"], rows[0]["use"], rows[0]["binary"]
    if not use:
        return
    name, ranked = f"label {label}", "ranked" in use
    n_rows, n_known = (sum(row[count] for row in rows) for count in ("n_rows", "n_known"))
    known = [row for row in rows if row["n_known"]]

    def every_row(some: Sequence[dict[str, Any]]) -> str:
        return "every row" + (f" of {_and([row['part'] for row in some])}" if len(some) < len(rows) else "")

    if unknown := [row for row in rows if not row["n_known"]]:
        yield _finding(f"{name} is missing in {every_row(unknown)}")
    elif n_known < n_rows and not rows[0]["given"]:
        yield _note(f"{name} is missing in {show_share(1 - n_known / n_rows)} of the rows, which do not train it")
    if tasks.kinds.get(label, "binary") != "binary":
        if same := [row for row in known if row["low"] == row["high"]]:
            yield _finding(f"{name} is constant, {same[0]['low']:g}, in {every_row(same)}")
        if binary and known:
            yield _note(f"{name} is 0 or 1 in every row, but tasks.kinds declares a number")
        return
    if not binary:
        if ranked:
            low, high = min(row["low"] for row in known), max(row["high"] for row in known)
            yield _finding(
                f"{name} takes other values than 0 and 1 ({low:g} to {high:g}): make a binary label of it to rank it, "
                f"e.g. {label} >= {high:g}, or declare it as a number in tasks.kinds"
            )
        return
    if none := [row for row in known if not row["n_positive"]]:
        yield _finding(f"{name} has no positive: 0 in {every_row(none)}")
    if not ranked:
        return
    if every := [row for row in known if row["n_positive"] == row["n_known"]]:
        yield _finding(f"{name} is constant: positive in {every_row(every)}, so it ranks nothing")
    rarer = {
        row["part"]: min((row["n_positive"], "positive"), (row["n_known"] - row["n_positive"], "negative"))
        for row in rows
    }
    few = {part: pair for part, pair in rarer.items() if 0 < pair[0] < FEW}
    if few:
        held_out = [n for part, (n, _) in few.items() if part != "train"]
        rough = f": its AUC there has a standard error of up to {_uncertainty(min(held_out)):.2f}" if held_out else ""
        yield _finding(f"{name} has only {_and([f'{counted(*pair)} in {part}' for part, pair in few.items()])}{rough}")
    for row in rows[1:]:
        if min(rows[0]["n_positive"], row["n_positive"]) >= FEW:
            before, now = (part["n_positive"] / part["n_known"] for part in (rows[0], row))
            if max(before, now) >= DRIFT * min(before, now):
                yield _note(f"{name} is {show_share(now)} positive in {row['part']}, {show_share(before)} in training")


def _uncertainty(n: int) -> float:
    """Largest standard error of an AUC or of a share with `n` of the rarer class, or `n` users: 0.5 / sqrt(n).

    Source: Birnbaum and Klose 1957, Var(AUC) <= AUC (1 - AUC) / min(n positives, n negatives).
    """
    return float(0.5 / n**0.5)


def _funnel(found: Description, tasks: TasksConfig) -> Iterator[Finding]:
    constant = found.labels.group_by("label").agg((pl.col("n_positive").sum() == pl.col("n_known").sum()).alias("is"))
    always = set(constant.filter("is")["label"])
    implied = []
    for label, other, n, n_both in found.overlaps.rows():
        if {label, other} <= set(tasks.funnel) and tasks.funnel.index(other) < tasks.funnel.index(label) and n_both < n:
            yield _finding(
                f"the funnel is broken: {counted(n - n_both, 'row')} of {n:,} with {label} lack {other}; a search will "
                "refuse it, remove a task from tasks.funnel"
            )
        if {label, other} <= set(tasks.ranked) and n == n_both >= FEW and other not in always:
            implied.append(f"{label} implies {other}")
    if implied and not tasks.funnel:
        yield _note(f"{_few(implied)} in every row; tasks.funnel can declare it")


def _held_out(found: Description, tasks: TasksConfig) -> Iterator[Finding]:
    for part in found.held_out:
        name, n_rows = part["part"], part["n_rows"]
        before = "training" if name == "validation" else "training or validation"
        many = [
            f"{show_share(n_new / n)} of its {side}s (with {show_share(n_new_rows / n_rows)} of its rows)"
            for side in ("user", "item")
            for n, n_new, n_new_rows in [(part[f"n_{side}s"], part[f"n_new_{side}s"], part[f"n_new_{side}_rows"])]
            if n_new_rows >= MANY_NEW * n_rows or n_new >= MANY_NEW_IDS * n
        ]
        if many:
            yield _finding(f"{name} is new: {' and '.join(many)} were never in {before}")
        if part["n_unlisted_rows"] >= MANY_REPEATS * n_rows:
            yield _note(
                f"{show_share(part['n_unlisted_rows'] / n_rows)} of the {name} rows have an item that neither {before} "
                "nor a table of items contains, so no list can contain it"
            )
        n_users = part["n_ranking_users"]
        if n_users is not None and n_users < FEW:
            doubt = f": standard error up to {_uncertainty(n_users):.2f}" if n_users else ""
            yield _finding(
                f"recall on {name} rests on only {counted(n_users, 'known user')} with a positive of "
                f"{tasks.target}{doubt}"
            )
    if found.facts["split_kind"] == "leave_last_out" and found.spread["min"][0] < SHORTEST_HISTORY:
        yield _note(f"users with fewer than {SHORTEST_HISTORY} rows stay in training and are not measured")


def _ids(found: Description) -> Iterator[Finding]:
    for spread in found.spread.iter_rows(named=True):
        side, n = spread["side"], spread["n"]
        share = spread["max"] / found.facts["n_rows"]
        if n == 1:
            yield _finding(f"the log has a single {side}")
            continue
        if side == "user" and n >= MANY_USERS and share >= HEAVY:
            shown = spread["largest"]
            shown = shown if len(shown) <= MAX_ID else f"{shown[:MAX_ID]}…"
            yield _finding(f"user {shown} has {show_share(share)} of all rows: a person, or a machine?")
        if spread["n_single"] >= MOSTLY * n:
            yield _note(f"{show_share(spread['n_single'] / n)} of the {side}s have a single row")
    for side, _, n_in_log, n_log_only, _ in found.coverage.rows():
        if n_log_only:
            yield _finding(
                f"{show_share(n_log_only / n_in_log)} of the {side} of the log ({n_log_only:,}) are not in the table "
                f"of {side}: no features",
                warning=n_log_only >= MANY_NEW * n_in_log,
            )


def _features(found: Description) -> Iterator[Finding]:
    """A sentence per table and kind of trouble."""
    missing = pl.col("n_missing") / pl.col("n")
    n_present = pl.col("n") - pl.col("n_missing")
    unique = (pl.col("kind") == "categorical") & (pl.col("n_values") == n_present) & (n_present > 1)
    troubles = (
        ("without any value", missing == 1, True),
        ("that are mostly missing", missing.is_between(MOSTLY, 1, closed="left"), False),
        ("with a single value, which are left out", (pl.col("n_values") == 1) & (missing == 0), False),
        ("with a different value in every row, which say no more than the id", unique, False),
    )
    for side in dict.fromkeys(found.features["side"]):
        for trouble, condition, warning in troubles:
            here = found.features.filter((pl.col("side") == side) & condition)
            names = [
                f"{name} ({show_share(n_missing / n)})" if "mostly" in trouble else name
                for name, n, n_missing in here.select("name", "n", "n_missing").rows()
            ]
            if names:
                yield _finding(f"{side} features {trouble}: {_few(names)}", warning=warning)


def _content(found: Description) -> Iterator[Finding]:
    """How many items each part of the content covers, and how much their vectors differ."""
    held_out = [part["part"] for part in found.held_out]
    for part in found.content.iter_rows(named=True):
        name, n, n_with, distance = f"content {part['name']}", part["n"], part["n_with"], part["distance"]
        learned = part["kind"] == COOCCURRENCE
        thing = "a row of training to learn from" if learned else "a vector"
        if not n_with:
            yield _finding(f"{name}: no item has {thing}; leave it out")
            continue
        if n_with < MOSTLY * n:
            few = f"only {show_share(n_with / n)} of the {counted(n, 'item')} have {thing}"
            yield _finding(f"{name}: {few}; it does not distinguish the others")
        if distance is not None and distance < SIMILAR:
            near = f"hardly differ, their mean cosine distance is {distance:.2g}"
            yield _finding(f"{name}: the vectors of {n_with:,} items {'are equal' if distance < EQUAL else near}")
        for where in held_out:
            n_new, n_new_with = part[f"n_new/{where}"], part[f"n_new_with/{where}"]
            if not learned and n_new_with < MOSTLY * n_new:
                some = f"only {show_share(n_new_with / n_new)}" if n_new_with else "none"
                yield _finding(f"{name}: {some} of the {counted(n_new, 'new item')} of {where} has a vector")
    if found.content.height:
        for row in found.held_out:
            n_new = found.content[f"n_new/{row['part']}"][0]
            if row["n_new_items"] and not n_new:
                yield _note(
                    f"content cannot help the {counted(row['n_new_items'], 'new item')} of {row['part']}: no table of "
                    "items contains them, so no list can"
                )
            elif n_new and (found.content["kind"] == COOCCURRENCE).all():
                yield _note(f"content {COOCCURRENCE} knows none of the {counted(n_new, 'new item')} of {row['part']}")


def _few(names: Sequence[str]) -> str:
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _and(texts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _day(moment: str) -> str:
    return moment.partition("T")[0]
