"""NSGA-II: non-dominated sorting, with survival by hypervolume or crowding inside the front that is divided."""

from __future__ import annotations

from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from evorec.search.algorithm import AlgorithmContext, PymooAlgorithm, register_algorithm
from evorec.search.survival import RankAndHypervolume, crowding_name
from evorec.seeds import child_seed


@register_algorithm("nsga2", takes_any=True, asks_ahead=True)
def nsga2(context: AlgorithmContext) -> PymooAlgorithm:
    """NSGA-II with typed operators that never proposes a genome twice (``search.selection``).

    The first genome is the default, the others of the first generation are random. Source: Deb et al. 2002.
    """
    crowding = crowding_name(len(context.objectives))
    by_hypervolume = context.config.selection == "hypervolume"
    algorithm = NSGA2(
        pop_size=context.config.population,
        survival=RankAndHypervolume(context.objectives, crowding=crowding)
        if by_hypervolume
        else RankAndCrowding(crowding_func=crowding),
        output=None,
        seed=child_seed(context.config.seed, "nsga2"),
        **context.operators(),
    )
    return PymooAlgorithm(algorithm, context, fills=True)
