"""Genes that several mechanisms share."""

from __future__ import annotations

from evorec.space.genes import Boolean, Fixed, Gene, Integer

TASK_EMBEDDINGS = Boolean(
    "task_embeddings", default=False, text="each task has an embedding table besides the shared table"
)


def sharing_depth(n_layers: int) -> Gene:
    """Layers before the towers, of L."""
    return Integer(
        "sharing_depth", 0, n_layers, default=n_layers - 1, limits=(0, n_layers),
        text="layers shared by all tasks, or stitched; 0 = towers from the embeddings on",
    )  # fmt: skip


def expert_depth(n_layers: int) -> Gene:
    """Layers of experts, of L: at least 1."""
    if n_layers == 1:
        return Fixed("expert_depth", 1, text="layers of each expert")
    return Integer("expert_depth", 1, n_layers, default=n_layers - 1, limits=(1, n_layers), text="layers of experts")


def expert_count(name: str, low: int, high: int, default: int, text: str) -> Integer:
    """A number of experts."""
    return Integer(name, low, high, scale="log2", default=default, limits=(1, 64), text=text)


SHARED_EXPERTS = expert_count("shared_experts", 1, 4, 2, "experts that all tasks share")
TASK_EXPERTS = expert_count("task_experts", 1, 2, 1, "experts of each task")
