"""Whether the parts of a bundle fit together: an undamaged file may still have invalid content."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from evorec.serving.bundle import Bundle

_INTEGERS: Final = {
    "user.rows": 2, "history.rows": 2, "item.rows": 2, "context.rows": 1, "item.history_row": 1, "masked.indptr": 1,
    "masked.indices": 1,
}  # fmt: skip
_REALS: Final = {
    "user.weights": 2, "user.statistics": 2, "item.weights": 2, "item.content": 2, "statistics.nothing": 1,
    "catalogue.vectors": 3, "catalogue.keys": 2, "catalogue.prior": 1, "catalogue.statistics": 2,
}  # fmt: skip
"""Number of dimensions of each array."""
_ROWS: Final = {
    "user.rows": "users", "user.weights": "users", "user.statistics": "users", "history.rows": "users",
    "item.rows": "items", "item.weights": "items", "item.content": "items",
}  # fmt: skip
"""Arrays with a row for each user or item and a last row for the unknown user or item."""
_PER_ITEM: Final = {
    "catalogue.vectors": 1, "catalogue.keys": 1, "catalogue.prior": 0, "catalogue.statistics": 0, "item.history_row": 0,
}  # fmt: skip
"""Axis of the items in each array of the catalogue."""
_KINDS: Final = ("categorical", "multi_hot", "numeric", "linear")
"""Kinds of features that have rows of the embedding table."""


def check(bundle: Bundle) -> None:
    """Check that ids, arrays, encoders and manifest fit together.

    Raises:
        ValueError: names the contradiction.
        KeyError, TypeError, IndexError, OverflowError: a part is missing or of another type.
    """
    _check_manifest(bundle.manifest)
    _check_arrays(bundle)
    arrays, encoders = bundle.arrays, bundle.encoders
    n_rows = _embedding_rows(arrays)
    for side in ("user", "item", "context"):
        check_features(side, encoders[side], n_columns=arrays[f"{side}.rows"].shape[-1], n_rows=n_rows)
    for part in encoders["content"]:
        _check_field("content", part, ("", "vector", *_KINDS[:2]), arrays["item.content"].shape[1])
        if not isinstance(part["learned"], bool) or len(part["values"]) > part["n_columns"]:
            raise ValueError(f"content {part['name']} has more values than columns, or is neither learned nor fixed")
    n_user, n_item = (arrays[name].shape[1] for name in ("user.statistics", "catalogue.statistics"))
    if len(arrays["statistics.nothing"]) != n_user + n_item:
        raise ValueError("statistics.nothing has another length than the statistics of users and items")
    for side, size in (("user", n_user), ("item", n_item)):
        for key in encoders[f"{side}_statistics"]:
            fields: Sequence[int] = key["fields"]
            codes, values = arrays[f"{key['array']}.codes"], arrays[f"{key['array']}.values"]
            fits = codes.ndim == values.ndim == 2 and len(codes) == len(values) and codes.shape[1] == len(fields)
            inside = all(_is_inside(column, 1, arrays[f"{side}.rows"].shape[-1]) for column in fields)
            if not fits or not inside or not _is_inside(key["first"], values.shape[1], size):
                raise ValueError(f"statistics {key['array']} do not fit the features of the {side}")


def check_features(side: str, stored: Sequence[Mapping[str, Any]], *, n_columns: int, n_rows: int) -> None:
    """Check that features point into their bags and into the embedding table.

    Raises:
        ValueError: names the contradiction.
        KeyError, TypeError: a part is missing or of another type.
    """
    for field in stored:
        _check_field(side, field, _KINDS, n_columns)
        n_codes = {"numeric": len(field["edges"]) + 1, "linear": len(field["edges"])}.get(field["kind"])
        n_codes = len(field["values"]) if n_codes is None else n_codes
        if not 1 <= field["first_row"] <= field["first_row"] + n_codes < n_rows:
            raise ValueError(f"{side} feature {field['name']} points outside of the {n_rows} embedding rows")


def _check_manifest(manifest: Mapping[str, Any]) -> None:
    for name in ("k", "candidates"):
        if not isinstance(manifest[name], int) or isinstance(manifest[name], bool) or manifest[name] < 1:
            raise ValueError(f"{name} is {manifest[name]!r}")
    for name in ("mmr", "history_recency", "new_item_prior"):
        if not math.isfinite(manifest[name]) or (name == "mmr" and not 0 <= manifest[name] <= 1):
            raise ValueError(f"{name} is {manifest[name]!r}")
    rows = manifest.get("ensemble", {"prior_rows": []})["prior_rows"]
    if not isinstance(rows, list) or not all(isinstance(row, int) and row >= 0 for row in rows):
        raise ValueError(f"prior rows are {rows!r}")
    tasks = manifest["tasks"]
    if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
        raise ValueError(f"tasks are {tasks!r}")


def _check_arrays(bundle: Bundle) -> None:
    arrays, sizes = bundle.arrays, {"users": len(bundle.users), "items": len(bundle.items)}
    if not bundle.items:
        raise ValueError("the catalogue is empty")
    for kind, dimensions in (("i", _INTEGERS), ("f", _REALS)):
        for name, n_dimensions in dimensions.items():
            if arrays[name].ndim != n_dimensions or arrays[name].dtype.kind != kind:
                raise ValueError(f"{name} is {arrays[name].dtype} with {arrays[name].ndim} dimensions")
    for name, side in _ROWS.items():
        if len(arrays[name]) != sizes[side] + 1:
            raise ValueError(f"{name} has {len(arrays[name])} rows for {sizes[side]} {side} and the unknown")
    for name, axis in _PER_ITEM.items():
        if arrays[name].shape[axis] != sizes["items"]:
            raise ValueError(f"{name} has {arrays[name].shape[axis]} columns for {sizes['items']} items")
    if bundle.manifest.get("past") is not None:
        _check_past(arrays, sizes)
    for side in ("user", "item"):
        if arrays[f"{side}.rows"].shape != arrays[f"{side}.weights"].shape:
            raise ValueError(f"{side}.rows and {side}.weights have different shapes")
    starts, masked = arrays["masked.indptr"], arrays["masked.indices"]
    if len(starts) != sizes["users"] + 2 or starts[0] != 0 or starts[-1] != len(masked) or (np.diff(starts) < 0).any():
        raise ValueError(f"masked.indptr does not divide {len(masked)} items among {sizes['users']} users")
    n_rows = _embedding_rows(arrays)
    limits = dict.fromkeys(("item.rows", "user.rows", "history.rows", "context.rows", "item.history_row"), n_rows)
    for name, limit in {**limits, "masked.indices": sizes["items"]}.items():
        found = arrays[name]
        if found.size and not 0 <= found.min() <= found.max() < limit:
            raise ValueError(f"{name} points outside of 0..{limit - 1}")


def _check_past(arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> None:
    """Check the whole past of the users, and the item-item matrix that scores it."""
    starts, past = arrays["past.indptr"], arrays["past.items"]
    if len(starts) != sizes["users"] + 2 or starts[0] != 0 or starts[-1] != len(past) or (np.diff(starts) < 0).any():
        raise ValueError(f"past.indptr does not divide {len(past)} items among {sizes['users']} users")
    if "past.ages" in arrays and len(arrays["past.ages"]) != len(past):
        raise ValueError(f"past.ages has {len(arrays['past.ages'])} ages of {len(past)} items")
    for name, axis in (("neighbours", 0), ("values", 0), ("dense", 0), ("dense", 1), ("left", 0), ("right", 1)):
        found = arrays.get(f"item_item.{name}")
        if found is not None and (found.ndim != 2 or found.shape[axis] != sizes["items"]):
            raise ValueError(f"item_item.{name} has the shape {found.shape} for {sizes['items']} items")
    for name in ("past.items", "item_item.neighbours"):
        found = arrays.get(name)
        if found is not None and found.size and not 0 <= found.min() <= found.max() < sizes["items"]:
            raise ValueError(f"{name} points outside of the {sizes['items']} items")


def _embedding_rows(arrays: Mapping[str, np.ndarray]) -> int:
    """Rows of the embedding table, or of the equally long tables of the members of an ensemble."""
    tables = {name: array for name, array in arrays.items() if re.fullmatch(r"parameters\.(\d+\.)?table", name)}
    if not tables:
        raise ValueError("there is no embedding table")
    for name, table in tables.items():
        if table.ndim != 2 or table.dtype.kind != "f" or len({len(other) for other in tables.values()}) > 1:
            raise ValueError(f"{name} is {table.dtype} with {table.ndim} dimensions and {len(table)} rows")
    return len(next(iter(tables.values())))


def _check_field(side: str, field: Mapping[str, Any], kinds: Sequence[str], n_columns: int) -> None:
    """Check kind, columns, values and edges of a feature or a part of the content."""
    if not isinstance(field["name"], str):
        raise ValueError(f"a {side} feature is called {field['name']!r}")
    name = f"{side} feature {field['name']}"
    if field["kind"] not in kinds:
        raise ValueError(f"{name} is of kind {field['kind']!r}")
    if not _is_inside(field["first_column"], field["n_columns"], n_columns):
        raise ValueError(f"{name} points outside of the {n_columns} columns")
    if not all(isinstance(value, str | int | float) for value in field["values"]):
        raise ValueError(f"{name} has values that are neither texts nor numbers")
    if not all(isinstance(edge, int | float) for edge in field["edges"]):
        raise ValueError(f"{name} has edges that are not numbers")


def _is_inside(first: Any, n: Any, size: int) -> bool:
    """Whether ``first .. first + n`` are indices below `size`."""
    numbers = all(isinstance(number, int) and not isinstance(number, bool) for number in (first, n))
    return numbers and 0 <= first <= first + n <= size
