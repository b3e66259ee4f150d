"""How the formula that combines a member's task heads is evolved."""

from __future__ import annotations

from pydantic import Field

from evorec.config.section import Section


class FuseConfig(Section):
    """Evolved ranking scores (`evorec fuse`); changes no result of the search and is not part of the fingerprint."""

    population: int = Field(48, ge=4, le=10_000)
    """formulas per generation, rounded up to a multiple of 4"""
    generations: int = Field(20, ge=1, le=10_000)
    """generations, including the first"""
    tuning: int = Field(480, ge=0, le=1_000_000)
    """further formulas: those of the front with slightly changed constants"""
    max_users: int = Field(2000, ge=20)
    """users with held-out positives; formulas are fitted on one half and evaluated on the other"""
    max_size: int = Field(25, ge=3, le=100)
    """largest number of nodes (numbers, variables, operations) of an evolved formula"""
    objectives: tuple[str, ...] = Field((), max_length=6)
    """of ndcg@k, recall@k (of the target), ndcg@k/TASK, recall@k/TASK, diversity and size; empty = ndcg of the target
    and of up to 3 further tasks with positives of at least 30 users in each half, diversity and size"""
    mmr: bool = True
    """whether a formula may come with a weight of re-ranking for diversity (MMR)"""
    keep: int = Field(20, ge=1, le=200)
    """formulas that are kept, chosen by hypervolume"""
    seed: int = Field(0, ge=0)
    """seed of the halves and of the evolution"""
