"""Shared bottom: layers for all tasks, then a tower per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import final

from evorec.models.choice import MECHANISMS
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import Mechanism, towers
from evorec.models.mechanism_genes import TASK_EMBEDDINGS, sharing_depth
from evorec.models.slots import SHARED, Level, Unit
from evorec.models.spec import ModelSpec
from evorec.space.genes import Gene


@final
class SharedBottom(Mechanism):
    """Hard parameter sharing.

    Source: Caruana, "Multitask learning", Machine Learning 1997.
    """

    name, family, order = "shared_bottom", "towers", 1
    is_ragged = True
    trunk_reads_input = True

    def genes(self, n_layers: int) -> Sequence[Gene]:
        return sharing_depth(n_layers), TASK_EMBEDDINGS

    def levels(self, spec: ModelSpec, shape: InputShape) -> Sequence[Level]:
        return trunk_levels(spec, shape)

    def describe(self, spec: ModelSpec) -> str:
        return f"{trunk_text(spec)} (shared bottom)."


def trunk_levels(spec: ModelSpec, shape: InputShape, loss: Mapping[int, int] = MappingProxyType({})) -> list[Level]:
    """The shared layers of a member, then its towers (`towers`)."""
    depth = spec.sharing_depth
    shared = [Level((Unit(SHARED, 0, SHARED),))] * depth
    above = towers(spec, shape, depth, loss=loss)
    if 0 < depth < shape.n_layers:  # the lowest layers of all towers read the shared vector
        units = tuple(Unit(unit.task, 0, unit.loss) for unit in above[0].units)
        above = [Level(units), *above[1:]]
    return [*shared, *above]


def trunk_text(spec: ModelSpec) -> str:
    """Shared layers and towers in words, without a full stop."""
    if spec.sharing_depth:
        n = "layer" if spec.sharing_depth == 1 else f"{spec.sharing_depth} layers"
        return f"All tasks share the embeddings and the first {n}; above, each has its own small network, a tower"
    if spec.task_embeddings:
        return "The tasks share no layer: each has its own embedding table and its own network, a tower"
    return "All tasks share the embeddings and no layer: each has its own network, a tower"


MECHANISMS.register(SharedBottom.name, SharedBottom())
