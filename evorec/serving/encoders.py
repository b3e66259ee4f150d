"""Features of new users, items and moments as rows of the embedding table, content vectors and statistics.

What training fitted (vocabularies, bins, tables of statistics) comes from the bundle as data. A value that training did
not know is "unknown", never an error; a feature that does not exist, or a value of the wrong kind, is one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError

Rows = list[tuple[int, float]]
"""Rows of the embedding table with their weights."""
_TRUTH = {"true": True, "false": False}
SHORTEST = 1e-6
"""A shorter vector has no direction (`evorec.data.features`)."""
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")


@final
@dataclass(frozen=True)
class Codes:
    """How the values of one feature become codes.

    Attributes:
        name: of the feature.
        kind: ``categorical``, ``multi_hot``, ``numeric`` or ``vector``.
        values: value of each code from 1 on.
        edges: of the bins of a number.
    """

    name: str
    kind: str
    values: Sequence[Any]
    edges: Sequence[float]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Codes:
        """From the bundle's ``encoders.json``."""
        return cls(stored["name"], stored["kind"], stored["values"], stored["edges"])

    @cached_property
    def _code_of(self) -> dict[Any, int]:
        return {value: code for code, value in enumerate(self.values, start=1)}

    @cached_property
    def _are_numbers(self) -> bool:
        return bool(self.values) and all(isinstance(value, int | float) for value in self.values)

    def __call__(self, value: Any) -> list[int]:
        """Codes of a value; none for what is not known.

        Raises:
            DataError: the value is of another kind.
        """
        if value is None:
            return []
        if self.kind == "numeric":
            number = self._number(value)
            return [] if math.isnan(number) else [1 + int(np.searchsorted(self.edges, number, side="right"))]
        values = value if isinstance(value, list | tuple) else [value]
        if self.kind == "categorical" and len(values) != 1:
            raise DataError(f"feature {self.name} has one value, got {len(values)}: {value!r}.")
        codes = (self._code(one) for one in values)
        return list(dict.fromkeys(code for code in codes if code))

    def _code(self, value: Any) -> int:
        if isinstance(value, dict | list | tuple | set | frozenset):
            raise DataError(f"feature {self.name} must be a text or a number, got {value!r}.")
        if isinstance(value, str) and value.lower() in _TRUTH and all(one in (True, False) for one in self.values):
            value = _TRUTH[value.lower()]
        elif isinstance(value, str) and self._are_numbers:
            try:
                value = int(value) if _WHOLE_NUMBER.fullmatch(value) else float(value)  # a float has 53 bits alone
            except ValueError:
                return 0
        elif not isinstance(value, str) and value is not None and not self._are_numbers:
            value = str(value)
        return self._code_of.get(value, 0)

    def _number(self, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"feature {self.name} must be a number, got {value!r}.") from None
        if math.isinf(number):
            raise DataError(f"feature {self.name} must be finite, got {value!r}.")
        return number


@final
@dataclass(frozen=True)
class Fields:
    """The features of one side: users, items or the moment.

    Attributes:
        side: for messages.
        fields: name -> codes, first column, number of columns and first row of the embedding table.
    """

    side: str
    fields: Mapping[str, tuple[Codes, int, int, int]]

    @classmethod
    def of(cls, side: str, stored: Sequence[Mapping[str, Any]]) -> Fields:
        """From the bundle's ``encoders.json``."""
        return cls(side, {f["name"]: (Codes.of(f), f["first_column"], f["n_columns"], f["first_row"]) for f in stored})

    def replaced(
        self, rows: npt.NDArray[np.int64], weights: npt.NDArray[np.float32], features: Mapping[str, Any]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Bag ``(F,)`` of one entity with the rows of the given features in place of its own; may be longer.

        Raises:
            DataError: there is no such feature, or its value is of another kind.
        """
        extra: Rows = []
        rows, weights = rows.copy(), weights.copy()
        for name, value in features.items():
            codes, first, n_columns, first_row = self._field(name)
            found = codes(value) or [0]
            bag = [(first_row + code, 1.0 / len(found)) for code in found]
            own = slice(first, first + n_columns)
            rows[own], weights[own] = 0, 0.0
            for place, (row, weight) in enumerate(bag[:n_columns]):
                rows[first + place], weights[first + place] = row, weight
            extra += bag[n_columns:]
        if extra:
            rows = np.concatenate([rows, [row for row, _ in extra]])
            weights = np.concatenate([weights, np.array([weight for _, weight in extra], dtype=np.float32)])
        return rows, weights

    def _field(self, name: str) -> tuple[Codes, int, int, int]:
        if name not in self.fields:
            known = ", ".join(self.fields) or "none"
            raise DataError(f"the model has no {self.side} feature {name!r}; it has: {known}.")
        return self.fields[name]

    def places_with(self, rows: npt.NDArray[np.int64], name: str, values: Sequence[Any]) -> npt.NDArray[np.bool_]:
        """Which entities have one of the values.

        Args:
            rows: of all entities, int64 ``(n, F)``.
            name: of a feature that is no number.
            values: those that are looked for.
        Raises:
            DataError: there is no such feature, or it is a number, of which only a bin is kept.
        """
        codes, first, n_columns, first_row = self._field(name)
        if codes.kind == "numeric":
            raise DataError(f"where.{name}: a bundle keeps numbers in bins only; filter by id (only) instead.")
        wanted = [first_row + code for value in values for code in codes(value)]
        return np.asarray(np.isin(rows[:, first : first + n_columns], wanted).any(axis=1))


@final
@dataclass(frozen=True)
class ContentParts:
    """How an item's fixed content is made (`evorec.data.features.content_vectors`).

    Attributes:
        declared: parts from the item table: codes, first column and number of columns.
        sources: parts from elsewhere: first column and number of columns, by name.
        mean: content of an item of which nothing is known, float32 ``(D,)``.
    """

    declared: Sequence[tuple[Codes, int, int]]
    sources: Mapping[str, tuple[int, int]]
    mean: npt.NDArray[np.float32]

    @classmethod
    def of(cls, stored: Sequence[Mapping[str, Any]], mean: npt.NDArray[np.float32]) -> ContentParts:
        """From the bundle's ``encoders.json``."""
        declared = [(Codes.of(p), p["first_column"], p["n_columns"]) for p in stored if p["kind"]]
        sources = {p["name"]: (p["first_column"], p["n_columns"]) for p in stored if not p["kind"]}
        return cls(declared, sources, mean)

    @property
    def names(self) -> set[str]:
        """All parts."""
        return {codes.name for codes, *_ in self.declared} | set(self.sources)

    def vector(
        self,
        features: Mapping[str, Any],
        content: Mapping[str, Sequence[float]],
        known: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Content of an item, float32 ``(D,)``.

        Args:
            features, content: what is told of it.
            known: content of a known item, whose other parts stay; ``None`` = new: they are as in the mean item.
        Raises:
            DataError: there is no such part, or a vector has another length or is not finite.
        """
        vectors = {codes.name for codes, *_ in self.declared if codes.kind == "vector"} | set(self.sources)
        if unknown := sorted(set(content) - vectors):
            raise DataError(
                f"the model takes no content vector {unknown[0]!r}; it takes: {', '.join(sorted(vectors)) or 'none'}."
            )
        told = self.names & (set(features) | set(content))
        out, n_parts = (self.mean if known is None else known).copy(), max(1, len(self.declared) + len(self.sources))
        if not told:
            return out
        found = np.zeros(sum(size for *_, size in self.declared))
        start = 0
        for codes, _, size in self.declared:
            own = slice(start, start + size)
            keeps = known is not None and codes.name not in told
            part = out[own].astype(np.float64) if keeps else self._declared_part(codes, size, features, content)
            found[own] = _unit(part)
            start += size
        if found.any():
            out[: len(found)] = _unit(found) * math.sqrt(len(self.declared) / n_parts)
        for name, (first, size) in self.sources.items():
            if name in content and (vector := _unit(_vector(name, content[name], size))).any():
                out[first : first + size] = vector * math.sqrt(1 / n_parts)
        return out

    def _declared_part(
        self, codes: Codes, size: int, features: Mapping[str, Any], content: Mapping[str, Sequence[float]]
    ) -> npt.NDArray[np.float64]:
        if codes.kind == "vector":
            return _vector(codes.name, content[codes.name], size) if codes.name in content else np.zeros(size)
        out = np.zeros(size)
        out[[code - 1 for code in codes(features.get(codes.name))]] = 1.0
        return out


@final
@dataclass(frozen=True)
class StatisticsKey:
    """Statistics that are keyed by features alone, so that somebody or something new has them too.

    Attributes:
        columns: of the side's statistics.
        fields: first columns of the bag that the key is made of, none = the same for all.
        table: statistics by rows of the embedding table.
    """

    columns: slice
    fields: Sequence[int]
    table: Mapping[tuple[int, ...], npt.NDArray[np.float32]]

    def fill(self, out: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> None:
        """Puts the statistics of a bag ``(F,)`` into those of its side ``(s,)``, where there are any."""
        found = self.table.get(tuple(int(rows[column]) for column in self.fields))
        if found is not None:
            out[self.columns] = found


@final
@dataclass(frozen=True)
class SideStatistics:
    """The statistics of users or of items.

    Attributes:
        nothing: those of an id without a training row, float32 ``(s,)``.
        keys: those that features decide.
    """

    nothing: npt.NDArray[np.float32]
    keys: Sequence[StatisticsKey]

    @classmethod
    def of(
        cls, stored: Sequence[Mapping[str, Any]], nothing: npt.NDArray[np.float32], arrays: Mapping[str, np.ndarray]
    ) -> SideStatistics:
        """From the bundle's ``encoders.json`` and arrays."""
        keys = []
        for one in stored:
            codes, values = arrays[f"{one['array']}.codes"], arrays[f"{one['array']}.values"]
            table = {tuple(code): value for code, value in zip(codes.tolist(), values, strict=True)}
            keys.append(StatisticsKey(slice(one["first"], one["first"] + values.shape[1]), one["fields"], table))
        return cls(nothing, keys)

    def of_new(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Statistics ``(s,)`` of something new with the bag ``rows (F,)``."""
        out = self.nothing.copy()
        for key in self.keys:
            key.fill(out, rows)
        return out

    def updated(self, known: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Statistics of something known whose features were replaced."""
        out = known.copy()
        for key in self.keys:
            out[key.columns] = self.nothing[key.columns]
            key.fill(out, rows)
        return out


def _vector(name: str, values: Sequence[float], size: int) -> npt.NDArray[np.float64]:
    try:
        out = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"content {name} must be {size} numbers, got {str(values)[:60]!r}.") from None
    if out.shape != (size,) or not np.isfinite(out).all():
        raise DataError(f"content {name} must be {size} finite numbers, got an array of shape {out.shape}.")
    return out


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The vector at length 1; 0 if it has no direction."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > SHORTEST else np.zeros_like(vector)
