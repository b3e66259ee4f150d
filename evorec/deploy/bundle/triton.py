"""The graphs of a bundle as a model repository of NVIDIA Triton Inference Server.

Layout ``NAME/config.pbtxt`` and ``NAME/1/model.onnx``; each graph contains its weights, because Triton looks for
external data in the folder of the model. The bundle's ``ids.json`` and ``encoders.json`` map ids to rows and weights;
`evorec.serving` shows how they are used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evorec.deploy.bundle.graphs import CATALOGUE, GRAPHS
from evorec.deploy.bundle.onnx_files import require_onnx, write_graph
from evorec.errors import RunError
from evorec.outputs import move_folder, workspace
from evorec.run.atomic import write_atomic
from evorec.serving.bundle import read_bundle

if TYPE_CHECKING:
    import onnx

TYPES: Final = {1: "TYPE_FP32", 7: "TYPE_INT64", 9: "TYPE_BOOL"}
"""Triton's name of each ONNX number type that the graphs use."""


def write_triton(bundle: str | Path, out: str | Path) -> list[str]:
    """Write a model repository with the graphs of a bundle.

    Args:
        bundle: folder, checked first.
        out: folder to make.
    Returns:
        Names of the models.
    Raises:
        RunError: `out` exists, or the bundle is damaged.
        ConfigError: onnx is missing, or a graph with its weights is larger than its format allows.
    """
    require_onnx()
    out = Path(out)
    if os.path.lexists(out):
        raise RunError(f"{out} exists already and is not overwritten")
    folder = read_bundle(bundle).path
    with workspace(out) as partial:
        names = [name for name in GRAPHS if (folder / f"{name}.onnx").exists()]
        for name in names:
            model = _whole(folder, name)
            version = partial / f"evorec_{name}" / "1"
            version.mkdir(parents=True)
            write_graph(version / "model.onnx", model)
            write_atomic(version.parent / "config.pbtxt", _config(f"evorec_{name}", model).encode())
        move_folder(partial, out)
    return [f"evorec_{name}" for name in names]


def _whole(folder: Path, name: str) -> onnx.ModelProto:
    """A graph with its weights and a fixed catalogue: Triton has no inputs with a default."""
    import onnx
    from onnx.external_data_helper import convert_model_from_external_data

    model = onnx.load(folder / f"{name}.onnx")  # with external data
    convert_model_from_external_data(model)
    kept = [value for value in model.graph.input if value.name not in CATALOGUE]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model


def _config(name: str, model: onnx.ModelProto) -> str:
    """``config.pbtxt``; dynamic axes are -1, the first (users, items or pairs) included."""
    lines = [f'name: "{name}"', 'platform: "onnxruntime_onnx"', "max_batch_size: 0"]
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        lines.append(f"{kind} [")
        blocks = [_tensor(value) for value in values]
        lines.append(",\n".join(blocks))
        lines.append("]")
    lines += ["instance_group [ { kind: KIND_CPU count: 1 } ]", "version_policy: { latest: { num_versions: 1 } }", ""]
    return "\n".join(lines)


def _tensor(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    sizes = [size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim]
    dims = ", ".join(map(str, sizes or [1]))
    scalar = "" if sizes else " reshape: { shape: [ ] }"
    return f'  {{ name: "{value.name}" data_type: {TYPES[kind.elem_type]} dims: [ {dims} ]{scalar} }}'
