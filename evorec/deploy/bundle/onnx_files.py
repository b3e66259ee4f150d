"""Traced graphs as ONNX files whose weights stand once, in the bundle's safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from evorec.deploy.bundle.graphs import CATALOGUE
from evorec.errors import ConfigError
from evorec.store import write_atomic

if TYPE_CHECKING:
    import onnx

LARGE: Final = 1024
"""Arrays of fewer bytes stand in the graph itself."""
LARGEST: Final = 2**31 - 1
"""Bytes of a graph that holds its weights: the limit of its format."""
_AXES: Final[Mapping[str, Sequence[str]]] = {
    "user_rows": ("users", "user_bag"), "user_weights": ("users", "user_bag"), "user_statistics": ("users", ""),
    "history_rows": ("users", "past"), "history_weights": ("users", "past"), "context_rows": ("users", ""),
    "item_rows": ("items", "item_bag"), "item_weights": ("items", "item_bag"), "item_content": ("items", ""),
    "item_statistics": ("items", ""), "allowed": ("catalogue",), "excluded": ("users", "n_excluded"),
    "catalogue.vectors": ("", "catalogue", ""), "catalogue.keys": ("", "catalogue"), "catalogue.prior": ("catalogue",),
    "catalogue.statistics": ("catalogue", ""), "items": ("users", "k"), "scores": ("users", "k"),
}  # fmt: skip
"""Names of the sizes of inputs and outputs that vary."""


def require_onnx() -> None:
    """Whether the libraries of the extra ``export`` are there.

    Raises:
        ConfigError: one is not.
    """
    from importlib.util import find_spec

    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise ConfigError(f"export needs {', '.join(missing)}: pip install 'evorec[export]'.")


@final
class Stored:
    """Where the arrays of a safetensors file stand.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        self.location, self._start = path.name, 8 + length
        self._places: dict[str, tuple[int, int]] = {
            name: (entry["data_offsets"][0], entry["data_offsets"][1]) for name, entry in header.items()
        }
        self._path = path

    def point(self, tensor: onnx.TensorProto, name: str) -> None:
        """Makes a tensor of a graph refer to an array of the file instead of holding its bytes."""
        import onnx

        first, stop = self._places[name]
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.ClearField("int64_data")
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", self.location), ("offset", self._start + first), ("length", stop - first)):
            tensor.external_data.add(key=key, value=str(value))


def with_catalogue(model: onnx.ModelProto, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives the inputs of the catalogue their default: the bundle's own items, by which a caller need not feed any."""
    from onnx import numpy_helper

    for value in model.graph.input:
        if value.name in CATALOGUE:
            model.graph.initializer.append(numpy_helper.from_array(arrays[value.name], value.name))


def shared(model: onnx.ModelProto, arrays: Mapping[str, np.ndarray], stored: Stored) -> None:
    """Makes the large weights of a graph refer to the arrays of the file that hold the same bytes."""
    from onnx import numpy_helper

    by_bytes = {
        (array.dtype, array.nbytes, array.tobytes()): name for name, array in arrays.items() if array.nbytes >= LARGE
    }
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        found = by_bytes.get((array.dtype, array.nbytes, array.tobytes())) if array.nbytes >= LARGE else None
        if found is not None:
            stored.point(tensor, found)


def named_axes(model: onnx.ModelProto, *, pairs: bool) -> None:
    """Gives the sizes that vary names that mean something; in a graph of pairs users and items are one axis."""
    for value in (*model.graph.input, *model.graph.output):
        axes = _AXES.get(value.name, ("pairs" if pairs else "",))
        for size, name in zip(value.type.tensor_type.shape.dim, axes, strict=False):
            if size.HasField("dim_param") and name:
                size.dim_param = "pairs" if pairs and name in ("users", "items") else name


def write_graph(path: Path, model: onnx.ModelProto) -> None:
    """Writes a graph, whole or not at all.

    Raises:
        ConfigError: it is larger than its format allows.
    """
    if (size := model.ByteSize()) > LARGEST:
        raise ConfigError(f"{path.name} would have {size} bytes, ONNX allows {LARGEST}; leave this file out.")
    write_atomic(path, model.SerializeToString(deterministic=True))


def as_proto(model: Any, name: str, text: str) -> onnx.ModelProto:
    """The exporter's model without its notes on the code it came from.

    Args:
        model: from `traced`.
        name: of the graph.
        text: what it does.
    """
    import onnx_ir

    proto: onnx.ModelProto = onnx_ir.to_proto(model)
    proto.graph.name, proto.graph.doc_string = name, text
    del proto.metadata_props[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.initializer):
        del value.metadata_props[:]
    return proto
