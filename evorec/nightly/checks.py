"""The outcome of a check, of the data or of a challenger."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, final


class Outcome(StrEnum):
    """How a check ended; `ERROR` = it could not be made."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    ERROR = "error"
    SKIP = "skip"


@final
@dataclass(frozen=True)
class Check:
    """A check with its outcome.

    Attributes:
        name: with its group, such as ``data.rows`` or ``gate.recall@20``.
        outcome: how it ended.
        text: what was found and expected, in words.
    """

    name: str
    outcome: Outcome
    text: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "outcome": self.outcome.value}
