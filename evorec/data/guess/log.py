"""Roles of the columns of a log, its labels and the features of its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, final

import numpy as np
import polars as pl

from evorec.config.expressions import quoted_column, quoted_text
from evorec.data.guess.roles import (
    CONTEXT,
    LABELS,
    ROLES,
    SHOWN,
    STEPS,
    UNWANTED,
    Role,
    has_word,
    is_code,
    likeness,
    words,
)  # fmt: skip
from evorec.data.guess.sample import FEW_VALUES, MAX_MARKS, Values
from evorec.data.guess.writing import in_words
from evorec.data.tabular.times import MAX_BROKEN, WRITTEN, times
from evorec.errors import ConfigError, DataError

TIME_FORMATS: Final = (
    "%Y%m%d", "%Y%m%d%H%M%S", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d",
    "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y",
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%d-%m-%Y",
    "%m %d, %Y", "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%a %b %d %H:%M:%S %z %Y", "%Y%m%d%H", "%y%m%d%H",
)  # fmt: skip
"""Formats of times that are tried after `auto`; where two fit, the first."""
LOCAL_TIME: Final = r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}[T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?$"
"""A time without a zone."""
EARLIEST_S: Final = 631_152_000
"""1990-01-01: an earlier time is more likely another kind of number."""
LATEST_S: Final = 4_102_444_800
"""2100-01-01."""
NUMBER: Final = r"^-?[0-9.]+$"
KNOWN: Final = 0.7
"""Share of the rows with a user that a column of users should have, e.g. rather a session than a login."""
FIRST: Final = 1000
"""Values on which a format of times is tried first."""
MAX_KINDS: Final = 30
"""Kinds of events of a column; a column with more is something else."""
MAX_CONTEXT: Final = 1000
"""Different values of a feature of the context."""
MAX_LEVELS: Final = 11
"""Levels of ratings, e.g. 0 to 10; in a file without a header line a column with more values is of ids."""
MANY_LEVELS: Final = 50
"""A number with more values than this has no levels to choose a threshold from, but quantiles."""
LIKED: Final = 0.5
"""Wanted share of the rows with a liked item."""
LOVED: Final = 0.1
"""Wanted share of the rows with a loved item."""
RARE: Final = 0.05
"""Share of the rows below which a level is too rare."""


@final
@dataclass
class LogGuess:
    """Columns of a log by their roles; empty = there is none.

    Attributes:
        user, item, time: columns.
        time_unit: as in ``data.log``.
        other_units: further units that fit the times.
        has_zone: whether the times state their zone.
        lacks_times: whether rows have no time, or a time that cannot be read.
        marks: texts of times that are far from the others, e.g. 0001-01-01, which mean a missing value.
        event: column with the kind of event.
        kinds: kinds of events, the most frequent first.
        tasks: label -> expression.
        notes: label -> remark about it.
        unwanted: labels that say that an item was not wanted.
        target: label whose positives are retrieved.
        context: features of the context.
        undecided: columns without a role.
        columns: names for the columns of a file without a header line.
        remarks: sentences about guesses that a person should check.
    """

    user: str = ""
    item: str = ""
    time: str = ""
    time_unit: str = "auto"
    other_units: tuple[str, ...] = ()
    has_zone: bool = True
    lacks_times: bool = False
    marks: tuple[str, ...] = ()
    event: str = ""
    kinds: tuple[str, ...] = ()
    session: str = ""
    rating: str = ""
    tasks: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    unwanted: tuple[str, ...] = ()
    target: str = ""
    context: dict[str, str] = field(default_factory=dict)
    undecided: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether the file is a log: it has a user and an item."""
        return bool(self.user and self.item)


def guess_log(values: Mapping[str, Values], given: Mapping[Role, str], *, has_header: bool) -> LogGuess:
    """Roles of the columns of a file.

    Args:
        values: of each column.
        given: roles that are known.
        has_header: whether the columns have names of their own.
    """
    out = LogGuess()
    taken = {name for name in given.values() if name in values}

    def free() -> list[str]:
        return [name for name in values if name not in taken]

    def take(role: Role, names: Sequence[str]) -> str:
        if role in given:
            return given[role] if given[role] in values else ""
        found = sorted((name for name in names if likeness(name, role) > 0), key=lambda name: -likeness(name, role))
        if not found:
            return ""
        best = found[0]
        if others := [name for name in found[1:] if likeness(name, role) > likeness(best, role) - 1]:
            out.remarks.append(f"{role} = {best!r}; it may also be {in_words(others)} (--{role} NAME)")
        taken.add(best)
        return best

    out.time, out.time_unit, out.other_units = _time(values, given.get("time"), free(), has_header=has_header)
    taken.add(out.time)
    if has_header or "user" in given:
        ids = [name for name in free() if _may_be_id(values[name])]
        known = [name for name in ids if len(values[name].known) >= KNOWN * len(values[name].texts)]
        out.user = take("user", known) or take("user", ids)
        out.item = take("item", [name for name in ids if name not in taken])
    if not has_header:
        numbers = [name for name in free() if _may_be_id(values[name]) and values[name].n_values > MAX_LEVELS]
        out.user = out.user or next(iter(numbers), "")
        out.item = given.get("item") or next((name for name in numbers if name != out.user), "")
    taken |= {out.user, out.item}
    if not out.is_complete:
        return out
    out.event = given.get("event", "") or next((n for n in free() if _is_event(n, values[n], has_header)), "")
    taken.add(out.event)
    rating = [name for name in free() if _is_rating(name, values[name], has_header) and (has_header or not out.event)]
    out.rating = max(rating, key=lambda name: likeness(name, "rating"), default="")
    if not has_header:
        values = _renamed(out, values)
        taken = {out.user, out.item, out.time, out.event, out.rating}
    if out.other_units:
        units = " and ".join(out.other_units)
        out.remarks.append(f"time_unit = {out.time_unit!r}; {units} fits all times, too")
    if out.time:
        column = values[out.time]
        out.has_zone = not column.texts.drop_nulls().head(1).str.contains(LOCAL_TIME).any()
        read = _read_times(column, out.time_unit)
        if read is not None:
            far = column.texts.filter(~_is_likely(read).fill_null(True)).unique(maintain_order=True)
            out.marks = tuple(far.to_list()) if len(far) <= MAX_MARKS and not far.str.contains(NUMBER).any() else ()
            out.lacks_times = read.null_count() > 0 or bool(out.marks)
    out.session = next((n for n in free() if has_word(n, ("session",)) and has_word(n, ("id", "session"))), "")
    taken.add(out.session)
    truths = [name for name in free() if values[name].is_truth]
    labels = [name for name in truths if has_word(name, LABELS)]
    if not labels and len(truths) == 1 and not is_code(truths[0]) and not has_word(truths[0], CONTEXT):
        labels = truths
        out.remarks.append(f"{truths[0]!r} is taken for the label, because it alone has 0 and 1")
    if out.event and len(kinds := _kinds(values[out.event])) > 1:
        _event_tasks(out, values[out.event], kinds)
    elif labels:
        _label_tasks(out, labels)
    elif out.rating:
        _rating_tasks(out, values[out.rating])
    if not labels and truths and not out.tasks:
        out.remarks.append(f"columns with 0 and 1, {in_words(truths)}: which of them are labels cannot be guessed")
    taken |= {out.rating, *labels}
    for name in free():
        if has_word(name, CONTEXT) and not values[name].is_list and 2 <= values[name].n_values <= MAX_CONTEXT:
            out.context[name] = "categorical"
    out.undecided = tuple(name for name in free() if name not in out.context)
    return out


def _renamed(out: LogGuess, values: Mapping[str, Values]) -> dict[str, Values]:
    """The columns of a file without a header line, named by their roles."""
    roles: dict[str, Role] = {}
    for role in ROLES:
        if name := getattr(out, role):
            roles[name] = role
            setattr(out, role, role)
    out.columns = tuple(roles.get(name, name) for name in values)
    shown = ", ".join(f"{role} = column {1 + out.columns.index(role)}" for role in roles.values())
    out.remarks.append(f"the file has no header line; by their values, {shown}")
    return dict(zip(out.columns, values.values(), strict=True))


def _may_be_id(values: Values) -> bool:
    if values.is_list or values.is_truth or not len(values.known):
        return False
    return values.is_whole or not values.is_number


def _time(
    values: Mapping[str, Values], given: str | None, names: Sequence[str], *, has_header: bool
) -> tuple[str, str, tuple[str, ...]]:
    """Column, unit, and further units that fit."""
    if given is not None:
        units = _time_units(values[given]) if given in values else []
        return given, units[0] if units else "auto", tuple(units[1:])
    found: list[tuple[float, str, list[str]]] = []
    for name in names:
        like = likeness(name, "time")
        if (like or not has_header) and not values[name].is_list and (units := _time_units(values[name])):
            found.append((like, name, units))
    if not found:
        days = [name for name in names if values[name].is_day_or_time]
        found = [(0.0, name, units) for name in days if (units := _time_units(values[name]))]
    if not found:
        return "", "auto", ()
    # the finest clock: a day is of no use where there are seconds
    finest = max(found, key=lambda item: (values[item[1]].n_values > 1, item[2][0] in ("auto",), item[0]))
    return finest[1], finest[2][0], tuple(finest[2][1:])


def _time_units(values: Values) -> list[str]:
    """Units and formats that fit all values, or else most of them, the most certain first."""
    column = values.column
    first = Values(replace(column, values=column.values.drop_nulls().head(FIRST)))
    units = tuple(dict.fromkeys(("auto", *TIME_FORMATS, *WRITTEN)))
    most: list[tuple[int, str]] = []
    for unit in units:
        if _read_times(first, unit) is None:  # most formats fit no value at all
            continue
        seconds = _read_times(values, unit)
        if seconds is None or not (known := seconds.drop_nulls()).len():
            continue
        if (n_likely := int(_is_likely(known).sum())) >= (1 - MAX_BROKEN) * len(known):
            most.append((n_likely, unit))
            if unit == "auto":
                break
    n_most = max((n for n, _ in most), default=0)
    return [unit for n, unit in most if n == n_most]


def _is_likely(seconds: pl.Series) -> pl.Series:
    return (seconds >= EARLIEST_S) & (seconds <= LATEST_S)


def _read_times(values: Values, unit: str) -> pl.Series | None:
    """Times, null where a few of them cannot be read; ``None`` if they have another unit or format."""
    with suppress(DataError, ConfigError):
        return times(values.column, unit, "UTC", drop=True)
    return None


def _is_event(name: str, values: Values, has_header: bool) -> bool:
    if values.is_list or not 1 <= values.n_values <= MAX_KINDS or values.is_truth:
        return False
    kinds = values.known.unique().to_list()
    steps = {word for step in STEPS for word in step} | set(SHOWN)
    if not values.is_number and any(not steps.isdisjoint(words(kind)) for kind in kinds):
        return True
    first = (words(name) or ("",))[0]
    named = first in ("event", "action", "behavior", "behaviour", "interaction", "activity", "feedback")
    return has_header and named and values.n_values <= FEW_VALUES


def _is_rating(name: str, values: Values, has_header: bool) -> bool:
    if values.is_list or not values.is_number or values.n_values < 2 or values.is_truth:
        return False
    return likeness(name, "rating") > 0 or (not has_header and values.n_values <= MAX_LEVELS)


def _kinds(values: Values) -> tuple[str, ...]:
    counts = values.known.value_counts(sort=True)
    return tuple(counts[counts.columns[0]].to_list())


def _event_tasks(out: LogGuess, values: Values, kinds: Sequence[str]) -> None:
    out.kinds = tuple(kinds)
    are_numbers = values.is_number and not values.marks
    names: dict[str, str] = {}
    for kind in kinds:
        slug = "_".join(words(kind)) or "event"
        slug = f"{words(out.event)[0] if words(out.event) else 'event'}_{slug}" if are_numbers else slug
        names[kind] = slug if slug not in names.values() else f"{slug}_{len(names)}"
        out.tasks[names[kind]] = f"{quoted_column(out.event)} == {kind if are_numbers else quoted_text(kind)}"
    out.unwanted = tuple(names[kind] for kind in kinds if has_word(kind, UNWANTED))
    wanted = [kind for kind in kinds if names[kind] not in out.unwanted and not has_word(kind, SHOWN)] or list(kinds)
    first = [kind for kind in wanted for step in STEPS[:1] if has_word(kind, step)]
    out.target = names[first[0] if first else wanted[0]]
    if are_numbers:
        out.remarks.append(
            f"the kinds of events in {out.event!r} are numbers, {in_words(kinds)}: give their labels names, and name "
            "the target"
        )


def _label_tasks(out: LogGuess, labels: Sequence[str]) -> None:
    for name in labels:
        slug = "_".join(words(name)).removeprefix("is_").removeprefix("has_") or name
        out.tasks[slug if slug not in out.tasks else name] = quoted_column(name)
    out.unwanted = tuple(name for name in out.tasks if has_word(name, UNWANTED))
    wanted = [name for name in out.tasks if name not in out.unwanted] or list(out.tasks)
    out.target = next((name for step in STEPS[:1] for name in wanted if has_word(name, step)), wanted[0])


def _rating_tasks(out: LogGuess, values: Values) -> None:
    """Labels for high numbers: about half of the rows, and the best of them."""
    numbers = values.parsed.drop_nulls()
    is_count = has_word(out.rating, ("plays", "playcount", "listens", "count", "weight", "times", "frequency"))
    levels = np.unique(numbers.to_numpy())
    if len(levels) > MANY_LEVELS:
        levels = np.unique(np.quantile(numbers.to_numpy(), [0.25, 0.5, 0.75, 0.9], method="nearest"))
    shares = {float(level): float((numbers.to_numpy() >= level).mean()) for level in levels}
    good = min(shares, key=lambda level: abs(shares[level] - LIKED))
    best = [level for level in shares if level > good and shares[level] >= RARE]
    names = ("often", "very_often") if is_count else ("liked", "loved")
    chosen = [good, *([min(best, key=lambda level: abs(shares[level] - LOVED))] if best else [])]
    for name, level in zip(names, chosen, strict=False):
        out.tasks[name] = f"{quoted_column(out.rating)} >= {level:g}"
        out.notes[name] = f"{shares[level]:.0%} of the rows"
    out.target = names[0]
    out.remarks.append(
        f"{names[0]} = {out.tasks[names[0]]}, which {shares[good]:.0%} of the rows have; {out.rating!r} is in "
        f"{numbers.to_numpy().min():g} .. {numbers.to_numpy().max():g}"
    )
