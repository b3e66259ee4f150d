"""Data of a bundle besides the trained parameters: encoded users and items, vocabularies, statistics by feature."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import COOCCURRENCE
from evorec.data.dataset import Dataset, Field
from evorec.data.held_out import masked_items
from evorec.data.readers import TABLE
from evorec.data.readers.table import read_item_columns
from evorec.data.tables import Columns
from evorec.errors import ConfigError
from evorec.models.recommend import popularity_prior
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.recommender.problem import RecProblem
from evorec.training.evaluate import positive_ages, unique_rows

Real: Final = np.float32
"""Number type of all real arrays of a bundle."""


def serving_arrays(encoded: EncodedData) -> dict[str, np.ndarray]:
    """Encoded users and items, the unknown user or item last, and the masked items; float32 and int64."""
    dataset = encoded.dataset
    masked = masked_items(dataset, encoded.config.evaluation)
    nothing = np.zeros(0, dtype=Real) if dataset.no_statistics is None else dataset.no_statistics
    return {
        "item.rows": dataset.item_rows,
        "item.weights": dataset.item_weights.astype(Real),
        "item.content": dataset.item_content.astype(Real),
        "item.history_row": dataset.item_history_row[:-1],
        "user.rows": dataset.user_rows,
        "user.weights": dataset.user_weights.astype(Real),
        "user.statistics": dataset.user_statistics.astype(Real),
        "history.rows": dataset.history_rows,
        "context.rows": dataset.context_mode,
        "masked.indptr": masked.indptr,
        "masked.indices": masked.indices,
        "statistics.nothing": nothing.astype(Real),
    }


def past_arrays(dataset: Dataset, spec: ModelSpec) -> dict[str, np.ndarray]:
    """The whole past of each user, latest first; with ages in days where they matter."""
    past = dataset.past
    ages = {"past.ages": past.ages_days.astype(Real)} if math.isfinite(spec.past_half_life) else {}
    return {"past.indptr": past.indptr, "past.items": past.items, **ages}


def priors(dataset: Dataset, spec: ModelSpec) -> tuple[npt.NDArray[np.float32], float]:
    """The popularity term of the score of each item ``(I,)``, and that of a new item."""
    shown = np.append(dataset.item_counts > 0, False)
    found = popularity_prior(*positive_ages(dataset), shown, [spec])[0].astype(Real)
    return found[:-1], float(found[-1])


def encoders(dataset: Dataset) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The encoding of features as JSON, and the tables of statistics that it refers to."""
    arrays: dict[str, np.ndarray] = {}
    out: dict[str, Any] = {
        "user": [_field(field) for field in dataset.user_fields[1:]],
        "item": [_field(field) for field in dataset.item_fields[1:]],
        "context": [_field(field) for field in dataset.context_columns],
        "content": [{**_field(part), "learned": part.name == COOCCURRENCE} for part in dataset.content_parts],
    }
    n_user = dataset.user_statistics.shape[1]
    sides = (
        ("user", dataset.statistics[:n_user], dataset.user_fields, dataset.user_rows, dataset.user_statistics),
        ("item", dataset.statistics[n_user:], dataset.item_fields, dataset.item_rows, dataset.item_statistics),
    )
    for side, names, fields, rows, statistics in sides:
        out[f"{side}_statistics"] = []
        for first, n_columns, columns in _keys(names, fields, {field.name for field in dataset.context_columns}):
            name = f"statistics.{side}.{first}"
            codes, which = unique_rows(rows[:, columns])
            values = np.empty((len(codes), n_columns), dtype=Real)
            values[which] = statistics[:, first : first + n_columns]
            arrays[f"{name}.codes"], arrays[f"{name}.values"] = codes, values
            out[f"{side}_statistics"].append({"first": first, "fields": columns, "array": name})
    return out, arrays


def shown_columns(problem: RecProblem, ids: Sequence[int | str], names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of the items table, such as titles, for the items of a catalogue.

    Args:
        problem: with the tables; other columns are read from the files of the table reader.
        ids: of the catalogue.
        names: of the columns.
    Returns:
        Values of JSON, each ``(I,)``, ``None`` where there is no value.
    Raises:
        ConfigError: there is no such column.
    """
    if not names:
        return {}
    items, data = problem.tables.items, problem.config.data
    held = [] if items is None else [name for name in items.columns if name != Columns.ITEM]
    if (lost := [name for name in names if name not in held]) and data.reader == TABLE and data.items.files:
        items = read_item_columns(data, names)
    elif lost:
        raise ConfigError(
            f"--show {lost[0]}: the items of {problem.tables.name} have no such column; they have: "
            f"{', '.join(held) or 'none'}."
        )
    assert items is not None
    row_of = {str(id_): row for row, id_ in enumerate(items[Columns.ITEM])}
    rows = [row_of.get(str(id_)) for id_ in ids]
    return {name: [None if row is None else _json(items[name][row]) for row in rows] for name in names}


def _json(value: Any) -> Any:
    """A value as JSON has it; dates and similar values as text."""
    if isinstance(value, pl.Series):
        return [_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _field(field: Field) -> dict[str, Any]:
    """A field as JSON; the kind of a part of the content that is not from the item table is empty."""
    book = field.codebook
    return {
        "name": field.name,
        "first_column": field.first_column,
        "n_columns": field.n_columns,
        "first_row": field.first_row,
        "kind": "" if book is None else book.kind,
        # dates and similar values as text
        "values": [] if book is None else [v if isinstance(v, int | float | str) else str(v) for v in book.values],
        "edges": [] if book is None else list(book.edges),
    }


def _keys(names: Sequence[str], fields: Sequence[Field], context: Iterable[str]) -> list[tuple[int, int, list[int]]]:
    """Keys of a side without its id: first statistic, number of statistics, columns of the bag that form the key.

    Context features of a key are left out: all users are served in the same default context.
    """
    of_field = {field.name: field.first_column for field in fields[1:]}
    keys: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        keys.setdefault(name.rpartition(":")[0], []).append(column)
    out = []
    for key, columns in keys.items():
        parts = [part.strip() for part in key.split("+")]
        if all(part in of_field or part in context for part in parts):
            out.append((columns[0], len(columns), [of_field[part] for part in parts if part in of_field]))
    return out
