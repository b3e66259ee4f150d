"""Multi-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from evorec.models.choice import MECHANISMS
from evorec.models.expert_levels import expert_levels
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import Mechanism, depth_text
from evorec.models.mechanism_genes import TASK_EMBEDDINGS, expert_count, expert_depth
from evorec.models.slots import Level
from evorec.models.spec import ModelSpec
from evorec.space.genes import Gene


@final
class Mmoe(Mechanism):
    """Experts for all tasks; each task mixes them with a gate of its own.

    Source: Ma et al., "Modeling task relationships in multi-task learning with multi-gate mixture-of-experts", KDD
    2018.
    """

    name, order = "mmoe", 3
    shared_layers = "made of experts"

    def genes(self, n_layers: int) -> Sequence[Gene]:
        count = expert_count("experts", 2, 8, 4, "experts that all tasks share")
        return expert_depth(n_layers), count, TASK_EMBEDDINGS

    def levels(self, spec: ModelSpec, shape: InputShape) -> Sequence[Level]:
        return expert_levels(spec, shape, n_shared=spec.setting("experts"), n_own=0)

    def describe(self, spec: ModelSpec) -> str:
        n = spec.setting("experts")
        experts = "one small network (expert)" if n == 1 else f"{n} small networks (experts)"
        tables = (
            " The experts read the shared embedding table; a task decides by a table of its own."
            if spec.task_embeddings
            else ""
        )
        return (
            f"All tasks share {experts} of {depth_text(spec)}; for every row each task decides anew how much it takes"
            f" of each (MMoE).{tables}"
        )


MECHANISMS.register(Mmoe.name, Mmoe())
