"""TensorBoard: scalars in event files, written by TensorBoard's own writer, without TensorFlow or PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from evorec.tracking.tracker import TrackedRun, Tracker, TrackerOptions, register_tracker


class TensorBoardOptions(TrackerOptions):
    """Settings of TensorBoard."""

    folder: str = ""
    """folder for the event files of all runs; empty = the folder tensorboard of the run directory"""


@final
@register_tracker("tensorboard", options=TensorBoardOptions)
class TensorBoard(Tracker):
    """Figures of the search as scalars; ``tensorboard --logdir runs`` shows all runs of a folder."""

    needs = "tensorboard"

    def begin(self, run: TrackedRun, identifier: str | None) -> str:
        from tensorboard.summary import Writer

        own = self.options.folder
        self._writer: Any = Writer(str(Path(own) / run.path.name if own else run.path / "tensorboard"))
        return run.path.name

    def generation(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self, status: str) -> None:
        self._writer.close()
