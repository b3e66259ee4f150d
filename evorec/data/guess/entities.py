"""Tables of users and items: their key, and the kinds of their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, final

from evorec.config.tables import FeatureKind
from evorec.data.guess.files import LogFiles
from evorec.data.guess.roles import TEXTS, Role, has_word, is_code, likeness, words
from evorec.data.guess.sample import FEW_VALUES, Sample, Values

Side = Literal["users", "items"]
UNIQUE: Final = 0.9
"""Share of different values in a column that identifies its rows."""
SHARED: Final = 0.1
"""Share of the ids of the log that a table must have."""
MAX_CONTENT: Final = 1000
"""Different values of a categorical feature that is content, too."""


@final
@dataclass
class EntityGuess:
    """The table of users or items.

    Attributes:
        side: users or items.
        key: column of the id.
        features: column -> kind.
        separators: multi-hot column -> separator.
        marks: further texts that mean a missing value.
        texts: columns of items with text.
        content: features of items that are content.
        left_out: column -> why it is no feature.
        repeats: whether an id has several rows.
        lacks_ids: whether rows lack the id.
    """

    side: Side
    key: str
    features: dict[str, FeatureKind] = field(default_factory=dict)
    separators: dict[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    repeats: bool = False
    lacks_ids: bool = False

    @property
    def size(self) -> int:
        """Number of features and texts."""
        return len(self.features) + len(self.texts)


def find_key(samples: Sequence[Sample], values: Mapping[str, Values], log: LogFiles) -> tuple[Side, str] | None:
    """Side and key of a table; ``None`` = it is neither of users nor of items.

    Args:
        samples: files of the table.
        values: facts about its columns.
        log: whose ids it should have.
    """
    found: list[tuple[float, Side, str]] = []
    sides: tuple[tuple[Side, Role, str], ...] = (("users", "user", log.guess.user), ("items", "item", log.guess.item))
    for side, role, column in sides:
        ids = log.values[column].known.unique()
        named = likeness(Path(samples[0].name).stem, role) > 0
        for name, own in values.items():
            if own.is_list or not len(own.known) or own.n_values < UNIQUE * len(own.known):
                continue
            n_both = int(ids.is_in(own.known.unique().implode()).sum())
            if n_both < SHARED * min(len(ids), own.n_values):
                continue
            overlap = n_both / (len(ids) + own.n_values - n_both)
            same = words(name) == words(column)
            like = likeness(name, role) > 0
            if same or like or named or not samples[0].has_header:
                found.append((3 * same + like + named + overlap, side, name))
    return max(found)[1:] if found else None


def guess_entities(values: Mapping[str, Values], side: Side, key: str) -> EntityGuess:
    """Features and texts of a table.

    Args:
        values: of each column.
        side: users or items.
        key: column of the id.
    """
    known = values[key].known
    out = EntityGuess(side, key, repeats=known.n_unique() < len(known), lacks_ids=len(known) < len(values[key].texts))
    marks: dict[str, None] = {}
    texts, content, vectors = list[str](), list[str](), list[str]()
    for name, own in values.items():
        if name == key:
            continue
        if own.is_nested and not own.is_list and not own.n_values:
            out.left_out[name] = "objects"
            continue
        if own.is_vector and side == "items":
            vectors.append(name)
            continue
        if own.is_list:
            out.features[name] = "multi_hot"
            continue
        n, n_values = len(own.known), own.n_values
        if n_values <= 1:
            out.left_out[name] = "a single value" if n_values else "no values"
        elif own.is_day_or_time or (own.is_number and likeness(name, "time") > 0 and n_values > FEW_VALUES):
            out.left_out[name] = "a day or time"
        elif side == "items" and (own.is_text or (has_word(name, TEXTS) and n_values > 0.5 * n)):
            texts.append(name)
        elif own.is_number and not own.marks and own.is_whole and (n_values <= FEW_VALUES or is_code(name)):
            out.features[name] = "categorical"
        elif own.is_number and not is_code(name):
            out.features[name] = "numeric"
            marks |= dict.fromkeys(own.marks)
        elif (separator := own.list_separator) is not None:
            out.features[name], out.separators[name] = "multi_hot", separator
        else:
            out.features[name] = "categorical"
        if out.features.get(name) == "categorical" and n_values > 0.9 * n:
            del out.features[name]
            out.left_out[name] = "different in nearly every row"
    if side == "items":
        lists = [name for name, kind in out.features.items() if kind == "multi_hot"]
        codes = [
            name
            for name, kind in out.features.items()
            if kind == "categorical" and 3 <= values[name].n_values <= MAX_CONTENT and not values[name].is_number
        ]
        content = [*vectors, *lists] or codes[:3]
    out.marks, out.texts, out.content = tuple(marks), tuple(texts), tuple(content)
    return out
