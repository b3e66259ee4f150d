"""A model for each task: nothing is shared but retrieval's embedding table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from evorec.models.choice import MECHANISMS
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import Mechanism, towers
from evorec.models.slots import Level
from evorec.models.spec import ModelSpec


@final
class SingleTask(Mechanism):
    """A tower per task on embedding tables of its own."""

    name, family, order = "single_task", "towers", 0
    is_ragged = True
    has_task_tables = True

    def levels(self, spec: ModelSpec, shape: InputShape) -> Sequence[Level]:
        return towers(spec, shape, 0)

    def describe(self, spec: ModelSpec) -> str:
        return (
            "The tasks share nothing: each has its own embedding table and its own network (single task). "
            "Retrieval has a separate table."
        )


MECHANISMS.register(SingleTask.name, SingleTask())
