"""Section ``[training]``: the budget of one candidate."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from evorec.config.section import Section


class BudgetConfig(Section):
    """Steps of one candidate, and where candidates of a generation are compared."""

    steps: int = Field(200, ge=1, le=1_000_000, description="optimiser steps")
    rungs: tuple[Annotated[int, Field(ge=1, strict=True)], ...] = Field(
        (),
        description="steps at which the members of a generation are compared and the worse ones stop, ascending and "
        "below steps; empty = all train to the end",
    )
    rung_keep: float = Field(0.5, ge=0.5, lt=1, description="share of the members that trains on after a rung")

    @model_validator(mode="after")
    def _rungs_in_order(self) -> Self:
        if any(low >= high for low, high in pairwise((0, *self.rungs, self.steps))):
            raise ValueError(f"rungs must ascend and stay below steps ({self.steps}), got {list(self.rungs)}")
        return self


class TrainConfig(BudgetConfig):
    """The search budget: what every candidate gets, and what stays the same for all of them."""

    batch_size: int = Field(1024, ge=2, le=65_536, description="impressions per step")
    retrieval_batch: int = Field(256, ge=2, le=8192, description="target positives per step, in-batch softmax")
    next_item: bool = Field(
        False,
        description="retrieval learns a positive from the positives before it (for held-out rows that come next; a "
        "repeated item counts each time), not from the user's whole past without it",
    )
    uniform_negatives: int = Field(
        128,
        ge=0,
        le=8192,
        description="items drawn uniformly per step, for members that take their negatives from them; 0 = no such "
        "members",
    )
    layers: int = Field(3, ge=1, le=8, description="layers L between the embeddings and the task heads")
    precision: Literal["float32", "float64", "bfloat16", "auto"] = Field(
        "float32",
        description="floating point type of the training; bfloat16 = layers and their products only, parameters, "
        "losses and measuring stay float32; auto = bfloat16 where the processor computes it natively, else float32",
    )
