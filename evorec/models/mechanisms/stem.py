"""Shared and task-specific embeddings: experts on tables of their own, with gates that stop gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from evorec.models.choice import MECHANISMS
from evorec.models.expert_levels import expert_levels
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import Mechanism, depth_text, experts_text
from evorec.models.mechanism_genes import SHARED_EXPERTS, TASK_EXPERTS, expert_depth
from evorec.models.slots import Level
from evorec.models.spec import ModelSpec
from evorec.space.genes import Gene


@final
class Stem(Mechanism):
    """Gates see all experts, but a task's experts learn only through the gate of their own task.

    Source: Su et al., "STEM: unleashing the power of embeddings for multi-task recommendation", AAAI 2024.
    """

    name, order = "stem", 6
    has_task_tables = True
    shared_layers = "made of experts"

    def genes(self, n_layers: int) -> Sequence[Gene]:
        return expert_depth(n_layers), SHARED_EXPERTS, TASK_EXPERTS

    def levels(self, spec: ModelSpec, shape: InputShape) -> Sequence[Level]:
        n_shared, n_own = spec.setting("shared_experts"), spec.setting("task_experts")
        return expert_levels(spec, shape, n_shared=n_shared, n_own=n_own, sees_all=True)

    def describe(self, spec: ModelSpec) -> str:
        return (
            "Each task has its own embedding table besides the shared one. There"
            f" {experts_text(spec.setting('shared_experts'))} for all tasks and {spec.setting('task_experts')} for each"
            f" task, of {depth_text(spec)}; every task may take from all of them, but another task's experts do not"
            " learn from it (STEM)."
        )


MECHANISMS.register(Stem.name, Stem())
