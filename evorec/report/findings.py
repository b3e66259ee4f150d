"""What is remarkable about a data set, in sentences: what is wrong, what will mislead, what is worth knowing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

from evorec.config import COOCCURRENCE, TasksConfig
from evorec.data.description import (
    ContentFacts,
    Coverage,
    Description,
    FeatureFacts,
    LabelFacts,
    LabelPart,
    Source,
    Spread,
)
from evorec.data.splits import SHORTEST_HISTORY
from evorec.report.data_tables import counted
from evorec.report.tables import show_share

Level = Literal["warning", "note"]
"""warning = something is probably wrong, or a figure will mislead; note = worth knowing."""

FEW: Final = 100
"""Fewer rows of a class, or users, than this leave a metric uncertain by about 0.05 (`_uncertainty`)."""
MANY_COLD: Final = 0.2
"""Share of rows with a user or an item that was never met, from which on it is a warning."""
MANY_COLD_IDS: Final = 0.5
"""The same for the share of the users or items themselves."""
MANY_REPEATS: Final = 0.01
HEAVY: Final = 0.05
"""Share of all rows that one user has, from which on it looks like a machine."""
MANY_USERS: Final = 100
"""Below this, one user may well have a large share of the rows."""
DRIFT: Final = 1.5
"""Ratio of a label's rates in two parts that is worth a sentence."""
MOSTLY: Final = 0.5
ALIKE: Final = 0.01
"""Mean cosine distance below which vectors hardly tell items apart."""
EQUAL: Final = 1e-6
"""The same where only rounding makes them differ."""
OLDEST_S: Final = 631_152_000
"""1990-01-01 UTC: hardly any log is older, and seconds taken for milliseconds fall into January 1970."""
MOST_NAMED: Final = 5
LONGEST_ID: Final = 60
"""Characters of an id that are shown; it may be a whole text."""


@final
@dataclass(frozen=True)
class Finding:
    """One sentence about the data that a careful person wants to know before a search."""

    level: Level
    text: str


def findings(found: Description, source: Source, tasks: TasksConfig, *, now_s: int) -> tuple[Finding, ...]:
    """Everything remarkable, warnings first.

    Args:
        found: the counts.
        source: what was read.
        tasks: what will be learned.
        now_s: seconds since 1970-01-01 UTC; a later row is a mistake.
    """
    everything = [
        *_dropped(source),
        *_split(found),
        *_names(found, tasks),
        *_time(found, now_s),
        *_repeats(found),
        *(finding for label in found.labels if label.use for finding in _label(label, tasks)),
        *_funnel(found, tasks),
        *_cold(found),
        *_measured(found, tasks),
        *_spread("user", found.per_user, found.n_rows),
        *_spread("item", found.per_item, found.n_rows),
        *_covered("users", found.users),
        *_covered("items", found.items),
        *_features(found.features),
        *(finding for part in found.content for finding in _content(part)),
        *_new_content(found),
    ]
    return tuple(sorted(everything, key=lambda finding: finding.level != "warning"))


def _warning(text: str) -> Finding:
    return Finding("warning", text)


def _note(text: str) -> Finding:
    return Finding("note", text)


def _dropped(source: Source) -> Iterator[Finding]:
    for n, why in ((source.n_missing_ids, "have no user or no item"), (source.n_duplicates, "repeat another row")):
        if n:
            text = f"{counted(n, 'row')} ({show_share(n / source.n_read)}) of the files {why} and were dropped"
            yield _warning(text) if n >= MANY_REPEATS * source.n_read else _note(text)


def _split(found: Description) -> Iterator[Finding]:
    if found.split_error:
        yield _warning(f"the log cannot be split, so it is described as a whole: {found.split_error}")
    elif found.split_kind != "time":
        kind = found.split_kind.replace("_", "-")
        yield _note(f"a {kind} split: a model learns from rows that are later than others it is measured on")
    few = [f"{part.name} has only {counted(part.n_rows, 'row')}" for part in found.parts if part.n_rows < FEW]
    if few and not found.split_error:
        yield _warning(f"{_and(few)}; every figure on so few will be rough")


def _names(found: Description, tasks: TasksConfig) -> Iterator[Finding]:
    known = [label.task for label in found.labels]
    wanted = {"ranked": tasks.ranked, "target": tuple(filter(None, [tasks.target]))}
    for key, names in wanted.items():
        if unknown := [name for name in names if name not in known]:
            yield _warning(f"tasks.{key} names {', '.join(unknown)}, which is no label; the data have {_few(known)}")
        elif not names:
            yield _warning(f"tasks.{key} is empty; the data have the labels {_few(known)}")


def _time(found: Description, now_s: int) -> Iterator[Finding]:
    repeats = found.repeats
    if repeats.n_times == 1:
        yield _warning(f"all timestamps are equal ({found.first}): there is no before and after, so no split by time")
        return
    if found.first_s < OLDEST_S:
        yield _warning(f"the earliest row is of {_day(found.first)}: is the unit of the timestamps right?")
    if found.last_s > now_s:
        yield _warning(f"the latest row is of {_day(found.last)}, which is yet to come: is the unit or the zone right?")
    if repeats.whole_days:
        yield _note("the timestamps are whole days: rows of one day have no order but the file's")
    elif (tied := repeats.n_tied / found.n_rows) >= MANY_REPEATS:
        yield _note(
            f"{show_share(tied)} of the rows have the timestamp of an earlier row of their user: "
            "the file's order decides which came first"
        )
    empty = found.timeline.n_empty_days
    if found.split_kind == "time" and empty:
        yield _note(
            f"{counted(empty, 'day')} of {found.timeline.n_days:,} between the first and the last row have no rows"
        )


def _repeats(found: Description) -> Iterator[Finding]:
    repeats = found.repeats
    if not repeats.n_rows:
        return
    same = _which(
        repeats.n_identical, repeats.n_rows, "equal in every label and context too", "with other labels or context"
    )
    share = show_share(repeats.n_rows / found.n_rows)
    text = f"duplicates: {counted(repeats.n_rows, 'row')} ({share}) repeat user, item and timestamp of an earlier row"
    text += f", {same}"
    yield _warning(text) if repeats.n_rows >= MANY_REPEATS * found.n_rows else _note(text)


def _which(n: int, n_all: int, these: str, others: str) -> str:
    if n == n_all:
        return these
    return f"{n:,} of them {these}, the others {others}" if n else f"all of them {others}"


def _label(label: LabelFacts, tasks: TasksConfig) -> Iterator[Finding]:
    if unknown := [part for part in label.parts if not part.n_known]:
        yield _warning(f"label {label.task} is missing in {_every_row(label, unknown)}")
    elif label.n_known < label.n_rows and not label.given:
        share = show_share(1 - label.n_known / label.n_rows)
        yield _note(f"label {label.task} is missing in {share} of the rows, which do not teach it")
    if tasks.kinds.get(label.task, "binary") != "binary":
        yield from _number(label)
        return
    ranked = "ranked" in label.use
    if label.binary:
        yield from _class(label, ranked=ranked)
    elif ranked:
        low, high = _range(label)
        yield _warning(
            f"label {label.task} takes other values than 0 and 1 ({low:g} to {high:g}): make a label of it to rank it, "
            f"e.g. {label.task} >= {high:g}, or say in tasks.kinds that it is a number"
        )
    if ranked and label.binary:
        yield from _few_of_a_class(label)
        yield from _drift(label)


def _number(label: LabelFacts) -> Iterator[Finding]:
    """A label that is learned as a number."""
    if same := [part for part in label.parts if part.n_known and part.low == part.high]:
        yield _warning(f"label {label.task} is constant, {same[0].low:g}, in {_every_row(label, same)}")
    if label.binary and label.n_known:
        yield _note(f"label {label.task} is 0 or 1 in every row, and tasks.kinds makes a number of it")


def _every_row(label: LabelFacts, parts: Sequence[LabelPart]) -> str:
    some = f" of {_and([part.part for part in parts])}" if len(parts) < len(label.parts) else ""
    return f"every row{some}"


def _range(label: LabelFacts) -> tuple[float, float]:
    lows = [part.low for part in label.parts if part.low is not None]
    highs = [part.high for part in label.parts if part.high is not None]
    return min(lows), max(highs)


def _class(label: LabelFacts, *, ranked: bool) -> Iterator[Finding]:
    """A label of 0 and 1 that cannot be learned or measured at all."""
    if none := [part for part in label.parts if part.n_known and not part.n_positive]:
        yield _warning(f"label {label.task} has no positive: 0 in {_every_row(label, none)}")
    if ranked and (every := [part for part in label.parts if part.n_known and part.n_positive == part.n_known]):
        yield _warning(f"label {label.task} is constant: positive in {_every_row(label, every)}, so it ranks nothing")


def _few_of_a_class(label: LabelFacts) -> Iterator[Finding]:
    """The rarer class of each part, where it is rare indeed."""
    few: dict[str, tuple[int, str]] = {}
    for part in label.parts:
        n_negative = part.n_known - part.n_positive
        rarer = min((part.n_positive, "positive"), (n_negative, "negative"))
        if 0 < rarer[0] < FEW:
            few[part.part] = rarer
    if few:
        places = _and([f"{counted(n, kind)} in {name}" for name, (n, kind) in few.items()])
        held = [n for name, (n, _) in few.items() if name != "train"]
        rough = f": its AUC there has a standard error of up to {_uncertainty(min(held)):.2f}" if held else ""
        yield _warning(f"label {label.task} has only {places}{rough}")


def _uncertainty(n: int) -> float:
    """Largest standard error of an AUC or of a share with `n` of the rarer class, or `n` users: 0.5 / sqrt(n).

    Source: Birnbaum and Klose 1957, Var(AUC) <= AUC (1 - AUC) / min(n positives, n negatives).
    """
    return float(0.5 / n**0.5)


def _drift(label: LabelFacts) -> Iterator[Finding]:
    train = label.part("train")
    for part in label.parts:
        if train is None or part is train or min(train.n_positive, part.n_positive) < FEW:
            continue
        before, now = train.rate or 0.0, part.rate or 0.0
        if max(before, now) >= DRIFT * min(before, now):
            yield _note(
                f"label {label.task} is {show_share(now)} positive in {part.part}, {show_share(before)} in training"
            )


def _funnel(found: Description, tasks: TasksConfig) -> Iterator[Finding]:
    funnel = [task for task in tasks.funnel if found.label(task)]
    for place, later in enumerate(funnel):
        for earlier in funnel[:place]:
            pair = found.overlap(later, earlier)
            if pair and pair.n_both < pair.n:
                yield _warning(
                    f"the funnel is broken: {counted(pair.n - pair.n_both, 'row')} of {pair.n:,} with {later} lack "
                    f"{earlier}; a search will refuse it, take one of them out of tasks.funnel"
                )
    if tasks.funnel:  # there is one chain at most
        return
    ranked = [label.task for label in found.labels if "ranked" in label.use]
    implied = [
        f"{pair.task} implies {pair.other}"
        for pair in found.overlaps
        if {pair.task, pair.other} <= set(ranked) and pair.n == pair.n_both >= FEW and not _constant(found, pair.other)
    ]
    if implied:
        yield _note(f"{_few(implied)} in every row; tasks.funnel can say so")


def _constant(found: Description, task: str) -> bool:
    label = found.label(task)
    return label is not None and label.n_positive == label.n_known


def _cold(found: Description) -> Iterator[Finding]:
    for part, new in found.held_out:
        before = "training" if part.name == "validation" else "training or validation"
        sides = (
            ("users", new.n_cold_users, part.n_users, new.n_cold_user_rows),
            ("items", new.n_cold_items, part.n_items, new.n_cold_item_rows),
        )
        many = [
            f"{show_share(n_cold / n)} of its {side} (with {show_share(n_rows / part.n_rows)} of its rows)"
            for side, n_cold, n, n_rows in sides
            if n_rows >= MANY_COLD * part.n_rows or n_cold >= MANY_COLD_IDS * n
        ]
        if many:
            yield _warning(f"{part.name} is new: {' and '.join(many)} were never in {before}")
        if new.n_unlisted_rows >= MANY_REPEATS * part.n_rows:
            yield _note(
                f"{show_share(new.n_unlisted_rows / part.n_rows)} of the {part.name} rows have an item that neither "
                f"{before} nor a table of items has: no list can hold it"
            )


def _measured(found: Description, tasks: TasksConfig) -> Iterator[Finding]:
    for part, new in found.held_out:
        if new.n_ranking_users is not None and new.n_ranking_users < FEW:
            doubt = f": standard error up to {_uncertainty(new.n_ranking_users):.2f}" if new.n_ranking_users else ""
            yield _warning(
                f"recall on {part.name} rests on only {counted(new.n_ranking_users, 'known user')} with a positive of "
                f"{tasks.target}{doubt}"
            )
    short = found.per_user
    if found.split_kind == "leave_last_out" and short.quantiles["min"] < SHORTEST_HISTORY:
        yield _note(f"users with fewer than {SHORTEST_HISTORY} rows stay in training and are not measured")


def _spread(side: str, spread: Spread, n_rows: int) -> Iterator[Finding]:
    if spread.n == 1:
        yield _warning(f"the log has one {side} only")
        return
    share = spread.quantiles["max"] / n_rows
    if side == "user" and spread.n >= MANY_USERS and share >= HEAVY:
        yield _warning(f"user {_short(spread.largest)} has {show_share(share)} of all rows: a person, or a machine?")
    if spread.n_single >= MOSTLY * spread.n:
        yield _note(f"{show_share(spread.n_single / spread.n)} of the {side}s have a single row")


def _covered(side: str, table: Coverage) -> Iterator[Finding]:
    if not table.n_table or not table.n_without_row:
        return
    share = table.n_without_row / table.n_in_log
    text = f"{show_share(share)} of the {side} of the log ({table.n_without_row:,}) are not in the table of {side}"
    text += ": no features"
    yield _warning(text) if share >= MANY_COLD else _note(text)


def _features(features: Sequence[FeatureFacts]) -> Iterator[Finding]:
    """One sentence per kind of trouble and table."""
    for side in dict.fromkeys(feature.side for feature in features):
        here = [feature for feature in features if feature.side == side]
        empty = [f.name for f in here if f.n_missing == f.n]
        sparse = [f"{f.name} ({show_share(f.n_missing / f.n)})" for f in here if MOSTLY * f.n <= f.n_missing < f.n]
        constant = [f.name for f in here if f.n_values == 1 and not f.n_missing]
        own = [f.name for f in here if f.kind == "categorical" and f.n_values == f.n - f.n_missing > 1]
        if empty:
            yield _warning(f"{side} features without any value: {_few(empty)}")
        if sparse:
            yield _note(f"{side} features that are mostly missing: {_few(sparse)}")
        if constant:
            yield _note(f"{side} features with one value, which are left out: {_few(constant)}")
        if own:
            yield _note(f"{side} features with another value in every row, which say no more than the id: {_few(own)}")


def _content(part: ContentFacts) -> Iterator[Finding]:
    """How many items a part of the content reaches, and whether it tells them apart."""
    learned = part.kind == COOCCURRENCE
    what = "a row of training to learn from" if learned else "a vector"
    if not part.n_with:
        yield _warning(f"content {part.name}: no item has {what}; leave it out")
        return
    if part.share < MOSTLY:
        few = f"only {show_share(part.share)} of the {counted(part.n, 'item')} have {what}"
        yield _warning(f"content {part.name}: {few}; it does not tell the others apart")
    if part.distance is not None and part.distance < ALIKE:
        near = f"hardly differ, their mean cosine distance is {part.distance:.2g}"
        alike = "are equal" if part.distance < EQUAL else near
        yield _warning(f"content {part.name}: the vectors of {part.n_with:,} items {alike}")
    for new in part.new:
        if not learned and new.share is not None and new.share < MOSTLY:
            some = f"only {show_share(new.share)}" if new.n_with else "none"
            yield _warning(
                f"content {part.name}: {some} of the {counted(new.n, 'new item')} of {new.part} has a vector"
            )


def _new_content(found: Description) -> Iterator[Finding]:
    """New items that no part of the content can help, whatever their vectors."""
    if not found.content:
        return
    learned = all(content.kind == COOCCURRENCE for content in found.content)
    for (part, held_out), new in zip(found.held_out, found.content[0].new, strict=True):
        if held_out.n_cold_items and not new.n:
            n_new = counted(held_out.n_cold_items, "new item")
            yield _note(f"content cannot help the {n_new} of {part.name}: no table of items has them, so no list can")
        elif new.n and learned:
            yield _note(f"content {COOCCURRENCE} knows none of the {counted(new.n, 'new item')} of {part.name}")


def _few(names: Sequence[str]) -> str:
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_ID else f"{name[:LONGEST_ID]}…"


def _and(texts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _day(moment: str) -> str:
    return moment.partition("T")[0]
