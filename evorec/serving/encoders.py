"""Features of new users, items and contexts as rows of the embedding table, content vectors and statistics.

Everything that training fitted (vocabularies, bins, tables of statistics) comes from the bundle as data. A value that
training did not see is "unknown", never an error; an unknown feature or a value of the wrong kind is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
_TRUTH = {
    **dict.fromkeys(("true", "True", "TRUE", "1"), True),
    **dict.fromkeys(("false", "False", "FALSE", "0"), False),
}
SHORTEST = 1e-6
"""A shorter vector has no direction (`evorec.data.features`)."""


@final
@dataclass(frozen=True)
class Feature:
    """A feature or a part of the content, as the bundle's ``encoders.json`` describes it.

    Attributes:
        name: of the feature.
        kind: ``categorical``, ``multi_hot``, ``numeric``, ``linear`` or ``vector``; empty for a part of the content
            that does not come from the item table.
        values: value of each code from 1 on.
        edges: bin edges of a number; of kind ``linear``, the number of each code from 1 on.
        first_column, n_columns: its columns of a bag, or of the content.
        first_row: row of the embedding table of an unknown value; codes follow.
        learned: whether a part of the content comes from interactions.
    """

    name: str
    kind: str
    values: Sequence[Any] = ()
    edges: Sequence[float] = ()
    first_column: int = 0
    n_columns: int = 1
    first_row: int = 0
    learned: bool = False

    @property
    def columns(self) -> slice:
        """Its columns."""
        return slice(self.first_column, self.first_column + self.n_columns)

    @cached_property
    def _code_of(self) -> dict[Any, int]:
        """Codes by value, and by the texts of values that are not texts."""
        by_value = {value: code for code, value in enumerate(self.values, start=1)}
        named = {text: code for value, code in by_value.items() if not isinstance(value, str) for text in _texts(value)}
        if all(value in (True, False) for value in self.values):
            named |= {text: by_value[truth] for text, truth in _TRUTH.items() if truth in by_value}
        return named | by_value

    def codes(self, value: Any) -> list[int]:
        """Codes of a value, without unknown values.

        Raises:
            DataError: the value is of another kind.
        """
        if value is None:
            return []
        if self.kind == "numeric":
            number = self._number(value)
            return [] if math.isnan(number) else [1 + int(np.searchsorted(self.edges, number, side="right"))]
        values = elements(value)
        if self.kind == "categorical" and len(values) != 1:
            raise DataError(f"feature {self.name} takes a single value, got {len(values)}: {value!r}.")
        codes = (self._code(part) for part in values)
        return list(dict.fromkeys(code for code in codes if code))

    def bag(self, value: Any) -> tuple[list[int], list[float]]:
        """Codes of a value and their weights, which sum to 1; code 0 for an unknown value.

        Raises:
            DataError: the value is of another kind.
        """
        if self.kind != "linear":
            codes = self.codes(value) or [0]
            return codes, [1.0 / len(codes)] * len(codes)
        number = math.nan if value is None else self._number(value)
        if math.isnan(number) or not self.edges:
            return [0], [1.0]
        # As `evorec.data.features` places it between two knots.
        at = float(np.interp(number, self.edges, np.arange(len(self.edges))))
        below = min(int(at), max(len(self.edges) - 2, 0))
        return [1 + below, min(2 + below, len(self.edges))], [1.0 - (at - below), at - below]

    def _number(self, value: Any) -> float:
        """A number or NaN.

        Raises:
            DataError: it is not a number, or infinite.
        """
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"feature {self.name} must be a number, got {value!r}.") from None
        if math.isinf(number):
            raise DataError(f"feature {self.name} must be finite, got {value!r}.")
        return number

    def _code(self, value: Any) -> int:
        """Code of a value, 0 for an unknown value; its spelling is exact, as that of an id."""
        if isinstance(value, Iterable) and not isinstance(value, str):
            raise DataError(f"feature {self.name} must be a text or a number, got {value!r}.")
        spellings = [value] if value is None or isinstance(value, str) else [value, *_texts(value)]
        return next((self._code_of[known] for known in spellings if known in self._code_of), 0)


def _texts(value: Any) -> list[str]:
    """The texts of a value that is not a text; a whole number may also be written without a fraction."""
    is_whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return [str(value), *([str(int(value))] if is_whole else [])]


def elements(value: Any) -> list[Any]:
    """The elements of a list, an array or a column; of another value the value itself."""
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    return list(value) if is_list else [value]


@final
class Fields:
    """The features of users, of items or of the context.

    Args:
        side: ``user``, ``item`` or ``context``, for messages.
        features: of that side.
    """

    def __init__(self, side: str, features: Sequence[Feature]) -> None:
        self.side = side
        self._features = {feature.name: feature for feature in features}
        self.names = set(self._features)

    def __getitem__(self, name: str) -> Feature:
        if name not in self._features:
            known = ", ".join(self._features) or "none"
            raise DataError(f"the model has no {self.side} feature {name!r}; it has: {known}.")
        return self._features[name]

    def replaced(self, rows: Int64, weights: Float32, features: Mapping[str, Any]) -> tuple[Int64, Float32]:
        """Bag ``(F,)`` of an entity with the given features instead of its own; it may become longer.

        Raises:
            DataError: the feature does not exist, or its value is of another kind.
        """
        rows, weights = rows.copy(), weights.copy()
        for name, value in features.items():
            feature = self[name]
            codes, shares = feature.bag(value)
            new_rows, new_weights = feature.first_row + np.array(codes), np.array(shares, dtype=np.float32)
            rows[feature.columns], weights[feature.columns] = 0, 0.0
            fit = min(feature.n_columns, len(new_rows))
            columns = slice(feature.first_column, feature.first_column + fit)
            rows[columns], weights[columns] = new_rows[:fit], new_weights[:fit]
            rows, weights = np.append(rows, new_rows[fit:]), np.append(weights, new_weights[fit:])
        return rows, weights

    def rows_with(self, rows: Int64, name: str, values: Sequence[Any]) -> npt.NDArray[np.bool_]:
        """Mask of the entities that have any of some values of a feature.

        Args:
            rows: bags of all entities, int64 ``(n, F)``.
            name: of a feature that is not a number.
            values: accepted values.
        Raises:
            DataError: the feature does not exist, or it is a number, of which the bundle knows only the bin.
        """
        feature = self[name]
        if feature.kind == "numeric":
            raise DataError(f"where.{name}: a bundle keeps numbers only in bins; filter by id (only) instead.")
        wanted = [feature.first_row + code for value in values for code in feature.codes(value)]
        return np.asarray(np.isin(rows[:, feature.columns], wanted).any(axis=1))


@final
class ContentParts:
    """The parts of an item's fixed content (`evorec.data.features.content_vectors`).

    Args:
        parts: those from the item table first, then those from elsewhere, whose kind is empty.
        mean: content of an item without description, float32 ``(D,)``.
    """

    def __init__(self, parts: Sequence[Feature], mean: Float32) -> None:
        self._declared = [part for part in parts if part.kind]
        self._sources = [part for part in parts if not part.kind]
        self._mean = mean
        self.names = {part.name for part in parts}

    def vector(
        self, features: Mapping[str, Any], content: Mapping[str, Sequence[float]], known: Float32 | None = None
    ) -> Float32:
        """Content of an item, float32 ``(D,)``.

        Args:
            features, content: description of the item.
            known: content of a known item, which keeps its other parts; ``None`` = a new item, which gets them from
                the mean item.
        Raises:
            DataError: the part does not exist, or a vector has another length or is not finite.
        """
        vectors = {part.name for part in (*self._declared, *self._sources) if part.kind in ("vector", "")}
        if unknown := sorted(set(content) - vectors):
            raise DataError(
                f"the model takes no content vector {unknown[0]!r}; it takes: {', '.join(sorted(vectors)) or 'none'}."
            )
        given = self.names & (set(features) | set(content))
        out, n_parts = (self._mean if known is None else known).copy(), len(self._declared) + len(self._sources)
        if not given:
            return out
        pieces = []
        start = 0
        for part in self._declared:
            if known is not None and part.name not in given:
                piece = out[start : start + part.n_columns].astype(np.float64)
            elif part.kind == "vector":
                piece = np.zeros(part.n_columns)
                if part.name in content:
                    piece = _vector(part, content[part.name])
            else:
                piece = np.zeros(part.n_columns)
                piece[[code - 1 for code in part.codes(features.get(part.name))]] = 1.0
            pieces.append(_unit(piece))
            start += part.n_columns
        declared = np.concatenate(pieces) if pieces else np.zeros(0)
        if declared.any():
            out[:start] = _unit(declared) * math.sqrt(len(self._declared) / n_parts)
        for part in self._sources:
            if part.name in content and (vector := _unit(_vector(part, content[part.name]))).any():
                out[part.columns] = vector * math.sqrt(1 / n_parts)
        return out


@final
class SideStatistics:
    """The statistics of users or of items.

    Args:
        stored: from ``encoders.json``: the statistics that depend only on features, so that new users and items have
            them too.
        nothing: statistics of an id without a training row, float32 ``(s,)``.
        arrays: of the bundle.
    """

    def __init__(self, stored: Sequence[Mapping[str, Any]], nothing: Float32, arrays: Mapping[str, np.ndarray]) -> None:
        self.nothing = nothing
        self._keys = []
        for key in stored:
            codes, values = arrays[f"{key['array']}.codes"], arrays[f"{key['array']}.values"]
            table = {tuple(code): value for code, value in zip(codes.tolist(), values, strict=True)}
            self._keys.append((slice(key["first"], key["first"] + values.shape[1]), key["fields"], table))

    def updated(self, known: Float32, rows: Int64) -> Float32:
        """Statistics ``(s,)`` with those of the features taken from a bag ``rows (F,)``."""
        out = known.copy()
        for columns, fields, table in self._keys:
            out[columns] = table.get(tuple(int(rows[column]) for column in fields), self.nothing[columns])
        return out


def _vector(part: Feature, values: Sequence[float]) -> npt.NDArray[np.float64]:
    try:
        out = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"content {part.name} must be {part.n_columns} numbers, got {str(values)[:60]!r}.") from None
    if out.shape != (part.n_columns,) or not np.isfinite(out).all():
        raise DataError(
            f"content {part.name} must be {part.n_columns} finite numbers, got an array of shape {out.shape}."
        )
    return out


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The vector at length 1; 0 if it has no direction."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > SHORTEST else np.zeros_like(vector)
