"""Cross-stitch networks: a network per task, whose units are blended after each of the first layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

from evorec.models.choice import MECHANISMS
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import Mechanism, towers
from evorec.models.mechanism_genes import TASK_EMBEDDINGS, sharing_depth
from evorec.models.slots import SHARED, Level
from evorec.models.spec import ModelSpec
from evorec.space.genes import Gene


@final
class CrossStitch(Mechanism):
    """A unit for each task at every level; after each of the first d, units are linear blends of all units.

    Source: Misra et al., "Cross-stitch networks for multi-task learning", CVPR 2016.
    """

    name, order = "cross_stitch", 2
    shared_layers = "stitched together"

    def genes(self, n_layers: int) -> Sequence[Gene]:
        return sharing_depth(n_layers), TASK_EMBEDDINGS

    def levels(self, spec: ModelSpec, shape: InputShape) -> Sequence[Level]:
        depth = spec.sharing_depth
        # A stitch carries the loss of every task into every unit below it.
        stitched = towers(spec, shape, 0, loss=dict.fromkeys(range(shape.n_tasks), SHARED))[:depth]
        return [*(replace(level, is_stitched=True) for level in stitched), *towers(spec, shape, 0)[depth:]]

    def describe(self, spec: ModelSpec) -> str:
        tables = " Each network reads an embedding table of its own." if spec.task_embeddings else ""
        if not spec.sharing_depth:
            text = "Each task has its own network on the embeddings; no layer is shared (cross-stitch of depth 0)."
        else:
            after = "the first layer" if spec.sharing_depth == 1 else f"each of the first {spec.sharing_depth} layers"
            text = f"Each task has its own network, and after {after} takes in a learned blend of all (cross-stitch)."
        return text + tables


MECHANISMS.register(CrossStitch.name, CrossStitch())
