"""ONNX graphs in sessions of onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from evorec.errors import ConfigError, RunError
from evorec.serving.catalogue import Feeds

if TYPE_CHECKING:
    import onnxruntime


@final
class Graph:
    """One ONNX graph in a session of its own.

    Args:
        path: of the graph; its weights lie beside it.
        outputs: that it must have; ``None`` = whatever it has.
    Raises:
        RunError: it cannot be run, or has other outputs.
    """

    def __init__(self, path: Path, outputs: Sequence[str] | None = None) -> None:
        self._path, self._session = path, _session(path)
        if outputs is not None and [one.name for one in self._session.get_outputs()] != list(outputs):
            raise RunError(f"{path} does not give {' and '.join(outputs)}; export the bundle again")
        needed, given = self._session.get_inputs(), self._session.get_overridable_initializers()
        self._names = {one.name for one in (*needed, *given)}

    def __call__(self, feeds: Feeds) -> list[np.ndarray]:
        """Outputs of the graph; what it does not read is left out."""
        wanted = {name: np.ascontiguousarray(array) for name, array in feeds.items() if name in self._names}
        try:
            out: list[np.ndarray] = self._session.run(None, wanted)
        except Exception as error:  # inputs are checked before, so that the graph or the arrays are wrong
            raise RunError(f"{self._path} cannot be run: {error}; export the bundle again") from None
        return out


def _session(path: Path) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError("a bundle needs onnxruntime: pip install 'evorec[serve]', or onnxruntime alone.") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # parallel are the calls
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever the library raises, the bundle cannot be used
        raise RunError(f"{path} cannot be run: {error}; export the bundle again") from None
