"""Customized gate control: experts of each task and shared experts, in a single level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from evorec.models.choice import MECHANISMS
from evorec.models.expert_levels import OWN_TABLES, expert_levels
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import Mechanism, depth_text, experts_text
from evorec.models.mechanism_genes import SHARED_EXPERTS, TASK_EMBEDDINGS, TASK_EXPERTS, expert_depth
from evorec.models.slots import Level
from evorec.models.spec import ModelSpec
from evorec.space.genes import Gene


@final
class Cgc(Mechanism):
    """A task's gate mixes its own and the shared experts.

    Source: Tang et al., "Progressive layered extraction (PLE)", RecSys 2020, section 4.1.
    """

    name, order = "cgc", 4
    shared_layers = "made of experts"

    def genes(self, n_layers: int) -> Sequence[Gene]:
        return expert_depth(n_layers), SHARED_EXPERTS, TASK_EXPERTS, TASK_EMBEDDINGS

    def levels(self, spec: ModelSpec, shape: InputShape) -> Sequence[Level]:
        return expert_levels(spec, shape, n_shared=spec.setting("shared_experts"), n_own=spec.setting("task_experts"))

    def describe(self, spec: ModelSpec) -> str:
        return (
            f"There {experts_text(spec.setting('shared_experts'))} for all tasks and {spec.setting('task_experts')} for"
            f" each task alone, of {depth_text(spec)}; for every row a task decides anew how much it takes of its own"
            f" and of the shared ones (CGC).{OWN_TABLES if spec.task_embeddings else ''}"
        )


MECHANISMS.register(Cgc.name, Cgc())
