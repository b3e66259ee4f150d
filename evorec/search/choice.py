"""Which algorithm a configuration names."""

from __future__ import annotations

from collections.abc import Container, Sequence

from evorec.config import SearchConfig
from evorec.objectives import Objective
from evorec.search.algorithms import AskTell, Proposer, nsga2
from evorec.search.baselines import RandomSearch, WeightedSumSearch
from evorec.space.space import SearchSpace


def algorithm_for(
    space: SearchSpace,
    config: SearchConfig,
    objectives: Sequence[Objective],
    *,
    n_constraints: int,
    told: Container[str],
) -> Proposer:
    """The algorithm that a configuration names, set up.

    Args:
        space: what a genome encodes.
        config: algorithm, population, seed and, of the weighted sum, weights and penalty.
        objectives: M objectives, whose boxes the weighted sum is made in.
        n_constraints: C, columns of ``G``.
        told: keys of the genomes evaluated so far, see `nsga2`.
    Raises:
        ConfigError: the weights do not fit the objectives.
    """
    if config.algorithm == "random":
        return RandomSearch(space, config, told=told)
    if config.algorithm == "weighted_sum":
        return WeightedSumSearch(space, config, objectives, told=told)
    algorithm = nsga2(space, config, objectives, told=told)
    return AskTell(algorithm, space, n_objectives=len(objectives), n_constraints=n_constraints, told=told)
