"""Whether the parts of a bundle fit together: what is whole may still say what cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from evorec.serving.bundle import Bundle

_DIMENSIONS: Final = {
    "user.rows": 2, "history.rows": 2, "item.rows": 2, "context.rows": 1, "item.history_row": 1, "masked.indptr": 1,
    "masked.indices": 1, "user.weights": 2, "user.statistics": 2, "item.weights": 2, "item.content": 2,
    "statistics.nothing": 1, "catalogue.vectors": 3, "catalogue.keys": 2, "catalogue.prior": 1,
    "catalogue.statistics": 2, "parameters.table": 2,
}  # fmt: skip
_WHOLE_NUMBERS: Final = (
    "user.rows", "history.rows", "item.rows", "context.rows", "item.history_row", "masked.indptr", "masked.indices",
)  # fmt: skip
_LINES: Final = {
    "user.rows": "users", "user.weights": "users", "user.statistics": "users", "history.rows": "users",
    "item.rows": "items", "item.weights": "items", "item.content": "items",
}  # fmt: skip
"""Arrays with a line for each user or item, and one for the unknown one."""
_PER_ITEM: Final = {
    "catalogue.vectors": 1, "catalogue.keys": 1, "catalogue.prior": 0, "catalogue.statistics": 0, "item.history_row": 0,
}  # fmt: skip
"""Axis of the items in each array of the catalogue."""
_KINDS: Final = ("categorical", "multi_hot", "numeric")
"""Kinds of features that have rows of the embedding table."""


def check(bundle: Bundle) -> None:
    """Whether ids, arrays, encoders and manifest fit together.

    Raises:
        ValueError: names what does not.
        KeyError, TypeError, IndexError, OverflowError: something is missing or of another type.
    """
    _check_manifest(bundle.manifest)
    _check_arrays(bundle)
    _check_rows(bundle)
    columns = {side: bundle.arrays[f"{side}.rows"].shape[-1] for side in ("user", "item", "context")}
    for side, n_columns in columns.items():
        for field in bundle.encoders[side]:
            if field["kind"] not in _KINDS:
                raise ValueError(f"{side} feature {field['name']} is of kind {field['kind']!r}")
            _check_field(side, field, n_columns)
    for part in bundle.encoders["content"]:
        if part["kind"] not in ("", "vector", "categorical", "multi_hot") or not isinstance(part["learned"], bool):
            raise ValueError(f"content {part['name']} is of kind {part['kind']!r}")
        _check_field("content", part, bundle.arrays["item.content"].shape[1])
    n_user, n_item = (bundle.arrays[name].shape[1] for name in ("user.statistics", "catalogue.statistics"))
    if len(bundle.arrays["statistics.nothing"]) != n_user + n_item:
        raise ValueError("statistics.nothing has another length than the statistics of users and items")
    for side, size in (("user", n_user), ("item", n_item)):
        _check_statistics(bundle, side, size, columns[side])


def _check_manifest(manifest: Mapping[str, Any]) -> None:
    for name in ("k", "candidates"):
        if not isinstance(manifest[name], int) or isinstance(manifest[name], bool) or manifest[name] < 1:
            raise ValueError(f"{name} is {manifest[name]!r}")
    for name in ("mmr", "history_recency", "new_item_prior"):
        if not math.isfinite(manifest[name]):
            raise ValueError(f"{name} is {manifest[name]!r}")
    if not 0 <= manifest["mmr"] <= 1:
        raise ValueError(f"mmr is {manifest['mmr']!r}")
    tasks = manifest["tasks"]
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, str) for task in tasks):
        raise ValueError(f"tasks are {tasks!r}")


def _check_arrays(bundle: Bundle) -> None:
    arrays, sizes = bundle.arrays, {"users": len(bundle.users), "items": len(bundle.items)}
    if not bundle.items:
        raise ValueError("there is no item")
    for name, n_dimensions in _DIMENSIONS.items():
        if arrays[name].ndim != n_dimensions or (arrays[name].dtype.kind == "i") != (name in _WHOLE_NUMBERS):
            raise ValueError(f"{name} is {arrays[name].dtype} with {arrays[name].ndim} dimensions")
    for name, side in _LINES.items():
        if len(arrays[name]) != sizes[side] + 1:
            raise ValueError(f"{name} has {len(arrays[name])} lines for {sizes[side]} {side} and the unknown one")
    for name, axis in _PER_ITEM.items():
        if arrays[name].shape[axis] != sizes["items"]:
            raise ValueError(f"{name} has {arrays[name].shape[axis]} places for {sizes['items']} items")
    for side in ("user", "item"):
        if arrays[f"{side}.rows"].shape != arrays[f"{side}.weights"].shape:
            raise ValueError(f"{side}.rows and {side}.weights have different shapes")
    _check_masked(arrays["masked.indptr"], arrays["masked.indices"], sizes["users"], sizes["items"])


def _check_masked(starts: np.ndarray, masked: np.ndarray, n_users: int, n_items: int) -> None:
    if len(starts) != n_users + 2 or starts[0] != 0 or starts[-1] != len(masked) or (np.diff(starts) < 0).any():
        raise ValueError(f"masked.indptr does not divide {len(masked)} items among {n_users} users")
    if masked.size and not 0 <= masked.min() <= masked.max() < n_items:
        raise ValueError(f"masked.indices points outside of the {n_items} items")


def _check_rows(bundle: Bundle) -> None:
    """Whether everything that names rows of the embedding table names such that are there."""
    n_rows = len(bundle.arrays["parameters.table"])
    for name in ("item.rows", "user.rows", "history.rows", "context.rows", "item.history_row"):
        rows = bundle.arrays[name]
        if rows.size and not 0 <= rows.min() <= rows.max() < n_rows:
            raise ValueError(f"{name} points outside of the {n_rows} embedding rows")
    for side in ("user", "item", "context"):
        for field in bundle.encoders[side]:
            n_codes = len(field["edges"]) + 1 if field["kind"] == "numeric" else len(field["values"])
            if not 1 <= field["first_row"] <= field["first_row"] + n_codes < n_rows:
                raise ValueError(f"{side} feature {field['name']} points outside of the {n_rows} embedding rows")


def _check_field(side: str, field: Mapping[str, Any], n_columns: int) -> None:
    """Whether the columns are there, and values and edges can be what is looked for."""
    if not isinstance(field["name"], str):
        raise ValueError(f"a {side} feature is called {field['name']!r}")
    if not _is_inside(field["first_column"], field["n_columns"], n_columns):
        raise ValueError(f"{side} feature {field['name']} points outside of the {n_columns} columns")
    if not all(isinstance(value, str | int | float) for value in field["values"]):
        raise ValueError(f"{side} feature {field['name']} has values that are neither texts nor numbers")
    if not all(isinstance(edge, int | float) for edge in field["edges"]):
        raise ValueError(f"{side} feature {field['name']} has edges that are no numbers")
    if side == "content" and len(field["values"]) > field["n_columns"]:
        raise ValueError(f"content {field['name']} has more values than columns")


def _check_statistics(bundle: Bundle, side: str, size: int, n_columns: int) -> None:
    """Whether tables of statistics by feature fit the bags they are looked up by."""
    for key in bundle.encoders[f"{side}_statistics"]:
        fields: Sequence[int] = key["fields"]
        codes, values = bundle.arrays[f"{key['array']}.codes"], bundle.arrays[f"{key['array']}.values"]
        fits = codes.ndim == values.ndim == 2 and len(codes) == len(values) and codes.shape[1] == len(fields)
        inside = all(_is_inside(column, 1, n_columns) for column in fields)
        if not fits or not inside or not _is_inside(key["first"], values.shape[1], size):
            raise ValueError(f"statistics {key['array']} do not fit the features of the {side}")


def _is_inside(first: Any, n: Any, size: int) -> bool:
    """Whether ``first .. first + n`` are places of something with `size` places."""
    numbers = all(isinstance(number, int) and not isinstance(number, bool) for number in (first, n))
    return numbers and 0 <= first <= first + n <= size
