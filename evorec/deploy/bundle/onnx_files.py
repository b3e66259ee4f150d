"""ONNX files that share their weights: those in the bundle's safetensors file are external data of each graph."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import numpy as np

from evorec.deploy.bundle.graphs import CATALOGUE
from evorec.errors import ConfigError
from evorec.run.atomic import write_atomic
from evorec.serving.bundle import read_header

if TYPE_CHECKING:
    import onnx

LARGE: Final = 1024
"""Arrays of fewer bytes are stored in the graph itself."""
LARGEST: Final = 2**31 - 1
"""Bytes of a graph that holds its weights: the limit of its format."""
_AXES: Final[Mapping[str, Sequence[str]]] = {
    "user_rows": ("users", "user_bag"), "user_weights": ("users", "user_bag"), "user_statistics": ("users", ""),
    "past_items": ("users", "whole_past"), "past_weights": ("users", "whole_past"),
    "history_rows": ("users", "past"), "history_weights": ("users", "past"),
    "context_rows": ("users", "context_bag"), "context_weights": ("users", "context_bag"),
    "item_rows": ("items", "item_bag"), "item_weights": ("items", "item_bag"), "item_content": ("items", ""),
    "item_statistics": ("items", ""), "allowed": ("catalogue",), "excluded": ("users", "n_excluded"),
    "catalogue.vectors": ("", "catalogue", ""), "catalogue.keys": ("", "catalogue"), "catalogue.prior": ("catalogue",),
    "catalogue.statistics": ("catalogue", ""), "items": ("users", "k"), "scores": ("users", "k"),
}  # fmt: skip
"""Names of the dynamic axes of inputs and outputs."""


def require_onnx() -> None:
    """Check that the libraries of the extra ``export`` are installed.

    Raises:
        ConfigError: a library is missing.
    """
    from importlib.util import find_spec

    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise ConfigError(f"export needs {', '.join(missing)}: pip install 'evorec[export]'.")


@final
class StoredArrays:
    """The large arrays of a safetensors file, found by their content.

    Args:
        path: of the file.
        arrays: of the file, by name.
    """

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        header, start = read_header(path)
        self._location = path.name
        self._offsets = {
            _content(array): (start + header[name]["data_offsets"][0], array.nbytes)
            for name, array in arrays.items()
            if array.nbytes >= LARGE
        }

    def share(self, model: onnx.ModelProto) -> None:
        """Let the large weights of a graph refer to arrays of the file with the same bytes."""
        from onnx import TensorProto, numpy_helper

        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.nbytes < LARGE or (found := self._offsets.get(_content(array))) is None:
                continue
            for field in ("raw_data", "float_data", "int64_data", "external_data"):
                tensor.ClearField(field)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", self._location), ("offset", found[0]), ("length", found[1])):
                tensor.external_data.add(key=key, value=str(value))


def _content(array: np.ndarray) -> tuple[str, str]:
    """Key of an array's type and bytes."""
    return array.dtype.str, hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def with_catalogue(model: onnx.ModelProto, arrays: Mapping[str, np.ndarray]) -> None:
    """Give the inputs of the catalogue a default, the bundle's own items."""
    from onnx import numpy_helper

    for value in model.graph.input:
        if value.name in CATALOGUE:
            model.graph.initializer.append(numpy_helper.from_array(arrays[value.name], value.name))


def name_axes(model: onnx.ModelProto, *, common: str = "") -> None:
    """Name the dynamic axes.

    Args:
        model: to be changed.
        common: name of the axis of users and items in a graph of pairs of both, or of rows; empty = they differ.
    """
    for value in (*model.graph.input, *model.graph.output):
        axes = _AXES.get(value.name, (common,))
        for size, name in zip(value.type.tensor_type.shape.dim, axes, strict=False):
            if size.HasField("dim_param") and name:
                size.dim_param = common if common and name in ("users", "items") else name


def write_graph(path: Path, model: onnx.ModelProto) -> None:
    """Write a graph atomically.

    Raises:
        ConfigError: it is larger than its format allows.
    """
    if (size := model.ByteSize()) > LARGEST:
        raise ConfigError(f"{path.name} would have {size} bytes, ONNX allows {LARGEST}; leave this graph out.")
    write_atomic(path, model.SerializeToString(deterministic=True))
