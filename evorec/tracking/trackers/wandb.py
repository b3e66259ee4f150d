"""Weights & Biases, offline: files that ``wandb sync`` uploads when a person wants it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, final

from evorec.tracking.tracker import TrackedModel, TrackedRun, Tracker, TrackerOptions, register_tracker


class WandbOptions(TrackerOptions):
    """Settings of Weights & Biases."""

    project: str = "evorec"
    """name of the project"""
    mode: Literal["offline", "online"] = "offline"
    """offline = files only; online = to the server"""
    folder: str = ""
    """folder for its files; empty = the folder wandb of the working directory; not in a run, which holds no links"""


@final
@register_tracker("wandb", options=WandbOptions)
class Wandb(Tracker):
    """A run of Weights & Biases."""

    needs = "wandb"

    def begin(self, run: TrackedRun, identifier: str | None) -> str:
        import wandb

        identifier = identifier or f"{run.tags['fingerprint']}-{secrets.token_hex(4)}"
        self._run: Any = wandb.init(
            project=self.options.project, mode=self.options.mode,
            dir=self.options.folder or None, name=run.name, id=identifier,
            resume="allow", config=dict(run.params), tags=[run.problem],
            settings=wandb.Settings(console="off", silent=True),
        )  # fmt: skip
        return identifier

    def generation(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({"generation": step, **metrics})

    def artifact(self, file: Path) -> None:
        self._log(file.name, "result", file, [])

    def model(self, model: TrackedModel) -> None:
        self._log(f"bundle-{model.version[:16]}", "model", model.folder, [model.alias])

    def _log(self, name: str, kind: str, path: Path, aliases: list[str]) -> None:
        import wandb

        artifact = wandb.Artifact(name, type=kind)
        if path.is_dir():
            artifact.add_dir(str(path))
        else:
            artifact.add_file(str(path), policy="mutable")
        self._run.log_artifact(artifact, aliases=aliases or None)

    def end(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)
