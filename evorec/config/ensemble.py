"""How ensembles are selected from the archive of a run."""

from __future__ import annotations

from pydantic import Field

from evorec.config.section import Section


class EnsembleConfig(Section):
    """Ensembles of members (`evorec ensemble`); changes no result of the search and is not part of the fingerprint."""

    members: int = Field(4, ge=2, le=32)
    """most members of an ensemble; smaller ensembles are selected, too"""
    goals: tuple[str, ...] = ()
    """metrics of tasks or lists that members are selected for; empty = of the objectives the metrics of tasks, and
    those of relevant items in lists such as recall@k"""
    picks: tuple[str, ...] = ()
    """ensembles to keep, as finalize.picks, e.g. "accuracy where members <= 3"; empty = of each size the best of each
    goal and the best balance of the goals, if no member and no other ensemble dominates it"""
    steps: int = Field(12, ge=2, le=200)
    """additions of a member to an ensemble, with replacement; a member's weight is a multiple of 1 / additions"""
    library: int = Field(20, ge=2, le=1000)
    """members that are tried for a goal: its best members"""
    seed: int = Field(0, ge=0)
    """seed of the halves of the users: members are selected on one half and measured on the other"""
