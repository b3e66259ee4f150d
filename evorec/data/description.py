"""What a data set is like, as frozen data: the terminal, the HTML page and ``--format json`` all show the same facts.

Counted by `evorec.data.describe`, judged by `evorec.report.findings`. Every field is a plain JSON value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, final

from evorec.data.tables import FeatureKind

PARTS: Final = ("train", "validation", "test")
WHOLE: Final = "all"
"""Name of the only part of a log that cannot be split."""


@final
@dataclass(frozen=True)
class SourceFile:
    """One file that was read."""

    name: str
    n_rows: int


@final
@dataclass(frozen=True)
class Source:
    """Where a log comes from, and what its reader did with the rows.

    Attributes:
        reader: ``data.reader``; folder: that was read, empty for the simulator.
        files: of the log, of users and of items; empty where the reader does not count them, and the rest is zero then.
        n_read: rows of the log's files; n_missing_ids: of these, dropped without a user or an item; n_duplicates:
            dropped as repeating another row; n_events: those that were left, before events became one row each.
    """

    reader: str
    folder: str = ""
    files: tuple[SourceFile, ...] = ()
    n_read: int = 0
    n_missing_ids: int = 0
    n_duplicates: int = 0
    n_events: int = 0


@final
@dataclass(frozen=True)
class HeldOut:
    """How much of a part was never met before it: in training; for the test, in training and validation.

    Attributes:
        n_cold_users: users of the part without an earlier part's row; n_cold_user_rows: their rows.
        n_cold_items: the same for items; n_cold_item_rows: rows of these items.
        n_cold_rows: rows with a cold user or a cold item.
        n_unlisted_rows: rows of cold items that the table of items does not have either: nothing can recommend them.
        n_target: positives of the target; n_ranking_users: users on whom recall can be measured; both None without a
            target.
    """

    n_cold_users: int
    n_cold_user_rows: int
    n_cold_items: int
    n_cold_item_rows: int
    n_cold_rows: int
    n_unlisted_rows: int
    n_target: int | None
    n_ranking_users: int | None


@final
@dataclass(frozen=True)
class PartFacts:
    """Size and time of one part.

    Attributes:
        first: timestamp of its earliest row, ISO 8601 in UTC; last: of its latest.
        first_day: its first calendar day, ISO 8601, as days are cut for a split; last_day: its last one.
        held_out: None for training.
    """

    name: str
    n_rows: int
    n_users: int
    n_items: int
    first: str
    last: str
    first_day: str
    last_day: str
    held_out: HeldOut | None


@final
@dataclass(frozen=True)
class LabelPart:
    """One label in one part; `n_positive` counts values above 0, the rest is None when no value is known."""

    part: str
    n_rows: int
    n_known: int
    n_positive: int
    mean: float | None
    low: float | None
    high: float | None

    @property
    def rate(self) -> float | None:
        """Share of positives among the known values."""
        return self.n_positive / self.n_known if self.n_known else None


@final
@dataclass(frozen=True)
class LabelFacts:
    """One label column.

    Attributes:
        use: ``ranked``, ``target``, both joined by ``+``, or empty when the configuration does not use it.
        given: label whose positives are its sample space; empty = all rows.
        binary: whether every known value is 0 or 1.
    """

    task: str
    use: str
    given: str
    binary: bool
    parts: tuple[LabelPart, ...]

    def part(self, name: str) -> LabelPart | None:
        """The facts of one part."""
        return next((facts for facts in self.parts if facts.part == name), None)

    @property
    def n_rows(self) -> int:
        """Rows of all parts."""
        return sum(part.n_rows for part in self.parts)

    @property
    def n_known(self) -> int:
        """Rows of all parts whose value is known."""
        return sum(part.n_known for part in self.parts)

    @property
    def n_positive(self) -> int:
        """Positives of all parts."""
        return sum(part.n_positive for part in self.parts)


@final
@dataclass(frozen=True)
class Overlap:
    """Of the `n` rows with a positive of `task` and a known `other`, `n_both` have a positive of `other` too."""

    task: str
    other: str
    n: int
    n_both: int


@final
@dataclass(frozen=True)
class Spread:
    """Rows per user or per item, over those in the log.

    Attributes:
        n: users or items; n_single: of these, with one row.
        quantiles: level -> rows; the lowest count that at least this share of them stays within.
        top_percent_share: share of the rows that the 1 % with the most rows have (at least one of them).
        largest: id of the one with the most rows.
        ranks: places by number of rows, 1 = the most, a few hundred at most; counts: rows at these places.
    """

    n: int
    n_single: int
    quantiles: dict[str, int]
    top_percent_share: float
    largest: str
    ranks: tuple[int, ...]
    counts: tuple[int, ...]


@final
@dataclass(frozen=True)
class Coverage:
    """How the table of users or items and the log fit together; all zero where there is no table.

    Attributes:
        n_table: rows of the table; n_in_log: different ids of the log.
        n_without_row: ids of the log that the table does not have; n_never_met: ids of the table not in the log.
    """

    n_table: int
    n_in_log: int
    n_without_row: int
    n_never_met: int


@final
@dataclass(frozen=True)
class FeatureFacts:
    """One feature, counted over the table that has it.

    Attributes:
        side: ``user``, ``item`` or ``context``.
        n: rows of the table; n_missing: without a value, for multi_hot also an empty list.
        n_values: different values, of multi_hot of single tags.
        top_share: share of the most frequent value among those present, None when there are none or for numbers.
        low, median, high: of a number.
        mean_length: tags per present list, of multi_hot.
    """

    side: Literal["user", "item", "context"]
    name: str
    kind: FeatureKind
    n: int
    n_missing: int
    n_values: int
    top_share: float | None = None
    low: float | None = None
    median: float | None = None
    high: float | None = None
    mean_length: float | None = None


ContentKind = Literal["categorical", "multi_hot", "vectors", "text", "graph", "encoder", "cooccurrence"]
"""The first two are columns of the item table, the next one may be, the others are kinds of ``data.content``."""


@final
@dataclass(frozen=True)
class NewItems:
    """Items that a held-out part has and no earlier one, as far as a list can hold them: they are in the item table.

    Attributes:
        part: ``validation`` or ``test``.
        n: such items; n_with: of these, with a vector.
    """

    part: str
    n: int
    n_with: int

    @property
    def share(self) -> float | None:
        """Of them with a vector."""
        return self.n_with / self.n if self.n else None


@final
@dataclass(frozen=True)
class ContentFacts:
    """One part of the fixed content vectors, counted over the catalogue: all items of the log and of the item table.

    Attributes:
        name: of the column or of the source in ``data.content``.
        kind: of either; made_of: ``item table``, columns of text, a path, or which rows of training.
        width: numbers per vector; of co-occurrence, which every fit learns anew, the most that there may be.
        n: items of the catalogue; n_with: of these, with a vector that is not zero; of co-occurrence, with a row of
            training to learn from. An item without gets the mean of the part; the columns of the item table are one
            part in that, so it must have none of them.
        distance: mean cosine distance of two items with a vector, in [0, 2]; 0 = all are equal; None without two such
            items and of co-occurrence.
        new: how far the part reaches new items, for each held-out part.
    """

    name: str
    kind: ContentKind
    made_of: str
    width: int
    n: int
    n_with: int
    distance: float | None
    new: tuple[NewItems, ...]

    @property
    def share(self) -> float:
        """Of the catalogue with a vector."""
        return self.n_with / self.n


@final
@dataclass(frozen=True)
class Timeline:
    """The log over time, in equal steps; a step without rows is not listed.

    Attributes:
        step: ``hour``, ``day``, ``week``, ``month``, ``quarter`` or ``year``.
        starts: first day (of hours: moment) of each step, ISO 8601.
        rows: part -> rows of each step.
        rates: label of 0 and 1 -> share of positives of each step, None where no value is known.
        n_empty_days: calendar days without a row between the first and the last one.
        n_days: calendar days from the first to the last one.
    """

    step: str
    starts: tuple[str, ...]
    rows: dict[str, tuple[int, ...]]
    rates: dict[str, tuple[float | None, ...]]
    n_empty_days: int
    n_days: int


@final
@dataclass(frozen=True)
class Repeats:
    """Rows that say the same again.

    Attributes:
        n_rows: rows whose user, item and timestamp an earlier row has too.
        n_identical: of these, equal in every label and context feature as well.
        n_pairs: different pairs of user and item.
        n_tied: rows whose user has an earlier row of the same timestamp, so that only the file orders them.
        n_times: different timestamps; whole_days: whether all of them have the same time of the day.
    """

    n_rows: int
    n_identical: int
    n_pairs: int
    n_tied: int
    n_times: int
    whole_days: bool


@final
@dataclass(frozen=True)
class Description:
    """Everything counted about one data set; no value was fitted to anything.

    Attributes:
        name: of the data set.
        first: moment of the earliest row, ISO 8601 in UTC; first_s: the same in seconds; last: of the latest row.
        split_kind: how it was divided; split_error: why it could not be, else empty.
        split_starts: days or moments, ISO 8601, from which rows are validation and test, by the clock that cuts days
            (`split.utc_offset_h`); empty without a time split.
        density: share of all pairs of a user and an item that the log has.
        overlaps: every ordered pair of binary labels.
    """

    name: str
    n_rows: int
    n_users: int
    n_items: int
    first: str
    last: str
    first_s: int
    last_s: int
    density: float
    split_kind: str
    split_error: str
    split_starts: tuple[str, ...]
    parts: tuple[PartFacts, ...]
    labels: tuple[LabelFacts, ...]
    overlaps: tuple[Overlap, ...]
    repeats: Repeats
    per_user: Spread
    per_item: Spread
    users: Coverage
    items: Coverage
    features: tuple[FeatureFacts, ...]
    content: tuple[ContentFacts, ...]
    timeline: Timeline

    def label(self, task: str) -> LabelFacts | None:
        """The facts of one label."""
        return next((facts for facts in self.labels if facts.task == task), None)

    def overlap(self, task: str, other: str) -> Overlap | None:
        """How often a positive of `task` is one of `other`."""
        return next((pair for pair in self.overlaps if (pair.task, pair.other) == (task, other)), None)

    @property
    def held_out(self) -> Iterator[tuple[PartFacts, HeldOut]]:
        """Validation and test with what is new in them."""
        return ((part, part.held_out) for part in self.parts if part.held_out is not None)
