"""Which nights and bundles are kept: the last nights, those that were promoted, and whatever a link names."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

from evorec.config import NightlyConfig
from evorec.deploy.gate import Verdict
from evorec.nightly.folder import PLAN, RUNS, Night, nights
from evorec.serving.model_folder import BUNDLES, ModelFolder

NIGHT: Final = re.compile(r"\d{4}-\d{2}-\d{2}-[0-9a-f]{12}")
FEWEST_CHAMPIONS: Final = 2
"""Of `ModelFolder.retain`, so that a rollback is possible."""


def prune(root: Path, models: ModelFolder, config: NightlyConfig, *, dry_run: bool = False) -> list[str]:
    """Remove old nights and bundles.

    A night is kept if it is one of the last `NightlyConfig.keep`, finished or not, if it was promoted and the folder of
    models still has its bundle, if its bundle is the challenger, or if a link in the folder of the nights leads to it.

    Args:
        root: folder of the nights.
        models: folder of the bundles.
        config: how many are kept.
        dry_run: only say which.
    Returns:
        Names of what is removed: ``runs/NIGHT`` and ``bundles/NAME``.
    """
    last = max(config.keep_promoted, FEWEST_CHAMPIONS) if config.keep_promoted else None
    bundles = models.retain(last, dry_run=dry_run) if (models.path / BUNDLES).is_dir() else []
    present = {path.name for path in (models.path / BUNDLES).glob("[!.]*")} - {*bundles}
    known = nights(root)
    kept = {night.path.name for night in known[-config.keep :]}
    kept |= {night.path.name for night in known if _is_named(night, present, models.challenger)}
    kept |= {Path(os.readlink(link)).name for link in root.iterdir() if link.is_symlink()}
    old = [night.path for night in known if night.path.name not in kept]
    old += [
        path for path in sorted((root / RUNS).glob("*")) if NIGHT.fullmatch(path.name) and not (path / PLAN).exists()
    ]
    for path in () if dry_run else old:
        (path / PLAN).unlink(missing_ok=True)  # first: a folder without it is no night, whatever is left of it
        shutil.rmtree(path)
    return [f"{RUNS}/{path.name}" for path in old] + [f"{BUNDLES}/{name}" for name in bundles]


def _is_named(night: Night, bundles: Collection[str], challenger: str | None) -> bool:
    """Whether the folder of models names the bundle of a night."""
    decision = night.decision or {}
    name = decision.get("challenger")
    if decision.get("verdict") == Verdict.PROMOTE:
        return name in bundles
    return name is not None and name == challenger and name != decision.get("champion")
