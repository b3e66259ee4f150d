"""Pictures of the experiments: equal figures give equal files, and text in them stays text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams |= {"svg.hashsalt": "evorec", "svg.fonttype": "none"}

from matplotlib import pyplot as plt  # noqa: E402  # the backend must be set before


def panels(n: int, *, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure with n axes in a row; width and height of each in inches."""
    figure, axes = plt.subplots(1, n, figsize=(width * n, height), squeeze=False)
    return figure, list(axes[0])


def save(figure: Any, path: Path) -> None:
    """Write an SVG without a date."""
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
