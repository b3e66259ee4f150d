"""Files of the log that have the same columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from evorec.data.guess.log import LogGuess
from evorec.data.guess.roles import has_word
from evorec.data.guess.sample import Sample, Values

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
"""Part of a given split -> words in the names of its files."""


@final
@dataclass(frozen=True)
class LogFiles:
    """Files of the log that have the same columns.

    Args:
        samples: their first rows.
        values: facts about the columns of all of them.
        guess: roles of the columns.
        event: kind of event of all rows; empty = the rows say it, or there are no kinds.
    """

    samples: tuple[Sample, ...]
    values: Mapping[str, Values]
    guess: LogGuess
    event: str = ""

    @property
    def n_rows(self) -> int:
        """Rows that were looked at."""
        return sum(sample.n_rows for sample in self.samples)

    @property
    def parts(self) -> dict[str, list[str]]:
        """Part of a given split -> its files; empty = the names of the files do not say it."""
        found: dict[str, list[str]] = {}
        for sample in self.samples:
            named = [part for part, some in PARTS.items() if has_word(Path(sample.name).name, some)]
            if len(named) != 1:
                return {}
            found.setdefault(named[0], []).append(sample.name)
        return {part: found[part] for part in PARTS if part in found} if {"train", "test"} <= set(found) else {}
