"""Progressive layered extraction: customized gate control at every level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from evorec.models.choice import MECHANISMS
from evorec.models.expert_levels import OWN_TABLES, expert_levels
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import Mechanism, experts_text
from evorec.models.mechanism_genes import SHARED_EXPERTS, TASK_EMBEDDINGS, TASK_EXPERTS, expert_depth
from evorec.models.slots import Level
from evorec.models.spec import ModelSpec
from evorec.space.genes import Gene


@final
class Ple(Mechanism):
    """CGC once per level; every level but the last also mixes all experts for the next level's shared experts.

    Source: Tang et al., "Progressive layered extraction (PLE)", RecSys 2020, section 4.2.
    """

    name, order = "ple", 5
    shared_layers = "made of experts"

    def genes(self, n_layers: int) -> Sequence[Gene]:
        return expert_depth(n_layers), SHARED_EXPERTS, TASK_EXPERTS, TASK_EMBEDDINGS

    def levels(self, spec: ModelSpec, shape: InputShape) -> Sequence[Level]:
        n_shared, n_own = spec.setting("shared_experts"), spec.setting("task_experts")
        return expert_levels(spec, shape, n_shared=n_shared, n_own=n_own, by_level=True)

    def describe(self, spec: ModelSpec) -> str:
        several = spec.sharing_depth > 1
        return (
            f"{f'On each of {spec.sharing_depth} levels there' if several else 'There'}"
            f" {experts_text(spec.setting('shared_experts'))} for all tasks and {spec.setting('task_experts')} for each"
            " task alone; for every row a task decides anew how much it takes of its own and of the shared ones"
            f"{', and the next level starts from what was taken' if several else ''} (PLE)."
            f"{OWN_TABLES if spec.task_embeddings else ''}"
        )


MECHANISMS.register(Ple.name, Ple())
