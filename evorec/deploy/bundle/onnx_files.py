"""Traced graphs as ONNX files whose weights stand once, in the bundle's safetensors file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from evorec.deploy.bundle.graphs import CATALOGUE
from evorec.errors import ConfigError
from evorec.run.atomic import write_atomic
from evorec.serving.bundle import read_header

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
    """The large arrays of a safetensors file, found by what they hold.

    Args:
        path: of the file.
        arrays: that it holds, by name.
    """

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        header, start = read_header(path)
        self._location = path.name
        self._places = {
            _content(array): (start + header[name]["data_offsets"][0], array.nbytes)
            for name, array in arrays.items()
            if array.nbytes >= LARGE
        }

    def share(self, model: onnx.ModelProto) -> None:
        """Makes the large weights of a graph refer to the arrays of the file that hold the same bytes."""
        from onnx import numpy_helper

        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.nbytes >= LARGE and (place := self._places.get(_content(array))):
                self._point(tensor, *place)

    def _point(self, tensor: onnx.TensorProto, offset: int, length: int) -> None:
        """Makes a tensor of a graph refer to bytes of the file instead of holding them."""
        import onnx

        for held in ("raw_data", "float_data", "int64_data", "external_data"):
            tensor.ClearField(held)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", self._location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))


def _content(array: np.ndarray) -> tuple[str, str]:
    """What tells one array's bytes from another's."""
    return array.dtype.str, hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def with_catalogue(model: onnx.ModelProto, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives the inputs of the catalogue their default: the bundle's own items, by which a caller need not feed any."""
    from onnx import numpy_helper

    for value in model.graph.input:
        if value.name in CATALOGUE:
            model.graph.initializer.append(numpy_helper.from_array(arrays[value.name], value.name))


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
