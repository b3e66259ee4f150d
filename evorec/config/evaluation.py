"""How a trained candidate is measured."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from evorec.config.section import Section


def _candidates(value: Any) -> Any:
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("must be an integer >= 1 or all")


class AttackConfig(Section):
    """Fake users who push a few items, for attack_shift@k (`evorec.data.attack`)."""

    kind: Literal["random", "average", "bandwagon"] = "random"
    """further rows of a fake user: random = with items drawn uniformly; average = with items drawn by their frequency;
    bandwagon = half of them with the most popular items"""
    size_percent: float = Field(3.0, ge=0.01, le=100)
    """fake users, in % of the users of the training rows"""
    n_targets: int = Field(10, ge=1, le=1000)
    """pushed items, drawn from the quarter of the items with the fewest training rows"""
    filler: int = Field(0, ge=0)
    """further rows of a fake user; 0 = the median number of training rows of a user"""
    seed: int = Field(0, ge=0)
    """seed of targets and fake users; the run's seed does not change them"""


class EvaluationConfig(Section):
    """How a trained candidate is measured."""

    k: int = Field(20, ge=1, le=1000)
    """length of a recommendation list"""
    candidates: Annotated[int | Literal["all"], BeforeValidator(_candidates)] = 200
    """retrieved items that the ranker re-orders, or all"""
    max_users: int = Field(2000, ge=1)
    """users sampled for ranking metrics during the search"""
    users: Literal["all", "warm"] = "all"
    """users of ranking metrics: all with a training row, or warm = with a target positive in training"""
    mask: Literal["seen", "positives"] = "seen"
    """items never recommended: all items that the user saw in training, or only target positives"""
    spend: str = ""
    """ranked task whose label is the cost of a row, for cost_per/<task>; empty = no such task"""
    groups: str = ""
    """column of the user table whose values are the groups of group_gap@k; empty = no groups"""
    sparsity_threshold: float = Field(1.0, ge=0)
    """an item counts in sparsity if its predicted preference is at most this many times 1 / catalogue"""
    attack: AttackConfig = AttackConfig()

    def n_candidates(self, n_items: int) -> int:
        """Items that the ranker re-orders, of a catalogue of `n_items`."""
        return n_items if self.candidates == "all" else min(self.candidates, n_items)

    @model_validator(mode="after")
    def _candidates_hold_the_list(self) -> EvaluationConfig:
        if self.candidates != "all" and self.candidates < self.k:
            raise ValueError(f"candidates ({self.candidates}) must be at least k ({self.k})")
        return self
