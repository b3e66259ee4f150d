"""Section ``[finalize]``: the training of chosen members before the test is opened."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from evorec.config.section import Section


class FinalizeConfig(Section):
    """How members are chosen and trained again before the test is opened."""

    picks: tuple[str, ...] = Field(
        (),
        description="validation picks: METRIC or best:METRIC, knee; either narrowed by where METRIC >= NUMBER and ..., "
        "or ,METRIC>=NUMBER; all = every member; empty = best of each objective, and the knee",
    )
    seeds: int = Field(3, ge=1, le=100, description="fresh seeds per pick; the first one is shipped")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the bootstrap over users")
    steps: Literal["validation", "search"] = Field(
        "validation",
        description="steps of the final training: validation = as many as served the member best when it was trained "
        "on the training part again and watched on validation; search = training.steps",
    )
    patience: int = Field(
        3, ge=1, le=100, description="checkpoints, of training.steps / 10 each, without a new best that end a task"
    )
    longest: float = Field(3.0, ge=1, le=100, description="most steps of the final training, in training.steps")
    boosting: bool = Field(True, description="gradient boosting of each task as a baseline on the test")
