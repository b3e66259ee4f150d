"""How the formula that combines a member's task heads is evolved."""

from __future__ import annotations

from pydantic import Field

from evorec.config.section import Section


class FuseConfig(Section):
    """Evolved ranking scores (`evorec fuse`); changes no result of the search and is not part of the fingerprint."""

    population: int = Field(48, ge=4, le=10_000, description="formulas per generation, rounded up to a multiple of 4")
    generations: int = Field(20, ge=1, le=10_000, description="generations, the first one included")
    tuning: int = Field(
        480, ge=0, le=1_000_000, description="further formulas: the front's, with constants moved a bit"
    )
    max_users: int = Field(
        2000, ge=20, description="users with held-out positives; one half fits formulas, the other one judges them"
    )
    max_size: int = Field(25, ge=3, le=100, description="most numbers, variables and operations of an evolved formula")
    objectives: tuple[str, ...] = Field(
        (),
        max_length=6,
        description="of ndcg@k, recall@k (of the target), ndcg@k/TASK, recall@k/TASK, diversity and size; empty = ndcg "
        "of the target and of up to 3 further tasks that 30 users of a half have done, diversity and size",
    )
    mmr: bool = Field(True, description="whether a formula may come with a weight of re-ranking for diversity (MMR)")
    keep: int = Field(20, ge=1, le=200, description="formulas that are kept, those that make the front's hypervolume")
    seed: int = Field(0, ge=0, description="seed of the halves and of the evolution")
