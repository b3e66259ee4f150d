"""ONNX graphs in sessions of onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from evorec.errors import ConfigError, RunError
from evorec.serving.items import Feeds

if TYPE_CHECKING:
    import onnxruntime


@final
class Graph:
    """An ONNX graph with its session.

    Args:
        path: of the graph; its weights are in the same folder.
        outputs: required names; ``None`` = any.
    Raises:
        RunError: it cannot be run, or has other outputs.
    """

    def __init__(self, path: Path, outputs: Sequence[str] | None = None) -> None:
        self._path, self._session = path, _session(path)
        if outputs is not None and [value.name for value in self._session.get_outputs()] != list(outputs):
            raise RunError(f"{path} does not give {' and '.join(outputs)}; export the bundle again")
        needed, given = self._session.get_inputs(), self._session.get_overridable_initializers()
        self._names = {value.name for value in (*needed, *given)}

    def __call__(self, feeds: Feeds) -> list[np.ndarray]:
        """Outputs of the graph; feeds that it does not read are ignored."""
        wanted = {name: np.ascontiguousarray(array) for name, array in feeds.items() if name in self._names}
        try:
            out: list[np.ndarray] = self._session.run(None, wanted)
        except Exception as error:  # inputs are checked before, so the graph or the arrays are wrong
            raise RunError(f"{self._path} cannot be run: {error}; export the bundle again") from None
        return out


def _session(path: Path) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError("a bundle needs onnxruntime: pip install 'evorec[serve]', or onnxruntime alone.") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # calls run in parallel instead
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # any error of the library: the bundle cannot be used
        raise RunError(f"{path} cannot be run: {error}; export the bundle again") from None
