"""Sections ``[space]`` and ``[box]``: genes and objectives with other bounds than their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag, model_validator

from evorec.config.section import Section


class Bounds(Section):
    """New bounds of a gene, in its unit."""

    low: float
    high: float

    @model_validator(mode="after")
    def _in_order(self) -> Bounds:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high}); give a single value to fix the gene")
        return self


class Box(Section):
    """The range of an objective in the hypervolume box."""

    ideal: float
    worst: float

    @model_validator(mode="after")
    def _not_flat(self) -> Box:
        if self.ideal == self.worst:
            raise ValueError(f"ideal and worst are both {self.ideal}")
        return self


def _override_kind(value: Any) -> str | None:
    if isinstance(value, Bounds | Mapping):
        return "bounds"
    if isinstance(value, list | tuple):
        return "options" if value and all(isinstance(option, str) for option in value) else "weights"
    return type(value).__name__ if isinstance(value, bool | int | float | str) else None


GeneOverride = Annotated[
    Annotated[Bounds, Tag("bounds")]
    | Annotated[tuple[float, ...], Tag("weights")]
    | Annotated[tuple[str, ...], Tag("options")]
    | Annotated[bool, Tag("bool")]
    | Annotated[int, Tag("int")]
    | Annotated[float, Tag("float")]
    | Annotated[str, Tag("str")],
    Discriminator(_override_kind, custom_error_type="override", custom_error_message="unknown kind of override"),
]
"""A value fixes a gene (a list of numbers fixes task weights), a list of texts restricts its options, ``{low, high}``
replaces its bounds; the type of a value is kept."""
