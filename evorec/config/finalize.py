"""Section ``[finalize]``: the training of chosen members before the test is opened."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from evorec.config.section import Section


class FinalizeConfig(Section):
    """How members are chosen and trained again before they are measured on test."""

    picks: tuple[str, ...] = ()
    """validation picks: METRIC or best:METRIC, cheapest, knee, ideal, weights METRIC=NUMBER ..., bands:N; narrowed by
    where METRIC >= NUMBER, METRIC <= NUMBER; all = every member; empty = best of each objective, and the knee"""
    rows: Literal["train+validation", "train"] = "train+validation"
    """rows of the final training; train = as published protocols that only choose by validation: its rows are neither
    trained on nor masked when the test is measured"""
    seeds: int = Field(3, ge=1, le=100)
    """fresh seeds per pick; the model of the first seed is shipped"""
    bootstrap: int = Field(2000, ge=100, le=100_000)
    """resamples of the bootstrap over users"""
    steps: Literal["validation", "search"] = "validation"
    """steps of the final training: validation = the best number of steps when the member is trained again and measured
    on validation at checkpoints; search = training.steps"""
    patience: int = Field(3, ge=1, le=100)
    """early stopping: checkpoints (every training.steps / 10) without a new best"""
    longest: float = Field(3.0, ge=1, le=100)
    """most steps of the final training, as a multiple of training.steps"""
    boosting: bool = True
    """whether gradient boosting of each task is a baseline, on validation and on test"""
    ensembles: bool = False
    """whether the ensembles of the archive (evorec ensemble) are measured beside the picks; their members are trained
    again, too"""

    @property
    def fit(self) -> Literal["train+validation", "train for test"]:
        """What the final training is fitted on, as `evorec.data.encode.Fit`; the test is held out."""
        return "train+validation" if self.rows == "train+validation" else "train for test"
