"""Section ``[split]``: how rows are divided into train, validation and test."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field, model_validator

from evorec.config.section import Section


class SplitConfig(Section):
    """How rows are divided into train, validation and test."""

    kind: Literal["time", "leave_last_out", "random", "random_per_user", "given"] = "time"
    """time = global cut; leave_last_out = per user; random = shares of all rows, random_per_user = of the rows of each
    user, both overestimate every metric; given = as data.log.parts or data.log.part says"""
    validation: Literal["random", "random_per_user", "leave_last_out", "time"] = "random"
    """how validation is taken out of the training rows of a given split without validation rows: validation_share at
    random, of all rows or of those of each user, the last row of each user, or the last validation_share by time"""
    validation_from: date | None = None
    """first day of validation, UTC (time split)"""
    test_from: date | None = None
    """first day of test, UTC (time split)"""
    utc_offset_h: float = Field(0.0, ge=-14, le=14)
    """hours that are added to UTC before rows are assigned to days"""
    validation_share: float = Field(0.1, gt=0, lt=0.5)
    """share of rows when no day is given"""
    test_share: float = Field(0.1, gt=0, lt=0.5)
    """share of rows when no day is given"""
    seed: int = Field(0, ge=0)
    """seed of random parts"""

    @model_validator(mode="after")
    def _days_in_order(self) -> SplitConfig:
        if (self.validation_from is None) != (self.test_from is None):
            raise ValueError("validation_from and test_from must be given together")
        if self.validation_from and self.test_from and self.validation_from >= self.test_from:
            raise ValueError(f"validation_from ({self.validation_from}) must be before test_from ({self.test_from})")
        return self
