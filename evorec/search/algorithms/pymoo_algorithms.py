"""Multi-objective algorithms of pymoo by name, with the typed operators and the duplicate check of `nsga2`."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from pymoo.algorithms.moo.ctaea import CTAEA
from pymoo.algorithms.moo.nsga3 import NSGA3, comp_by_cv_then_random
from pymoo.algorithms.moo.rvea import RVEA
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.algorithms.moo.spea2 import SPEA2, SPEA2Survival
from pymoo.algorithms.moo.unsga3 import UNSGA3, comp_by_rank_and_ref_line_dist
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.util.ref_dirs import get_reference_directions

from evorec.errors import ConfigError
from evorec.objectives import FloatArray
from evorec.search.algorithm import AlgorithmContext, PymooAlgorithm, register_algorithm
from evorec.seeds import child_seed


def _filled(context: AlgorithmContext, name: str, algorithm: Callable[..., Any], **own: Any) -> PymooAlgorithm:
    """An algorithm of pymoo with evorec's operators and the seed of the run."""
    seed = child_seed(context.config.seed, name)
    return PymooAlgorithm(algorithm(output=None, seed=seed, **own, **context.operators()), context, fills=True)


def _directions(context: AlgorithmContext) -> FloatArray:
    """Evenly spread reference directions (Das & Dennis 1998), as many as there are up to a generation's genomes."""
    n_objectives, partitions = len(context.objectives), 1
    if n_objectives == 1:
        return np.ones((1, 1))
    while math.comb(partitions + n_objectives, n_objectives - 1) <= context.config.population:
        partitions += 1
    found: FloatArray = get_reference_directions("das-dennis", n_objectives, n_partitions=partitions)
    return found


def _seeded(compare: Callable[..., Any]) -> TournamentSelection:
    """A tournament whose ties between infeasible genomes are drawn from the seed of the run.

    In pymoo 0.6.2 they are drawn from an unseeded generator (pymoo issue 794), and such a run could not be resumed.
    """

    def compared(pop: Any, P: Any, random_state: Any = None, **kwargs: Any) -> Any:
        violations = pop.get("CV")[:, 0][P]
        winners = P[np.arange(len(P)), violations.argmin(axis=1)]
        ties = violations[:, 0] == violations[:, 1]
        winners[ties] = P[ties, random_state.integers(2, size=int(ties.sum()))]
        both = (violations <= 0).all(axis=1)
        if both.any():
            winners[both] = compare(pop, P[both], random_state=random_state, **kwargs)[:, 0]
        return winners[:, None]

    return TournamentSelection(func_comp=compared)


@register_algorithm("nsga3", takes_any=True, asks_ahead=True)
def nsga3(context: AlgorithmContext) -> PymooAlgorithm:
    """NSGA-III: non-dominated sorting, then reference directions. Source: Deb & Jain 2014."""
    directions, size = _directions(context), context.config.population
    selection = _seeded(comp_by_cv_then_random)
    return _filled(context, "nsga3", NSGA3, ref_dirs=directions, pop_size=size, selection=selection)


@register_algorithm("unsga3", takes_any=True, asks_ahead=True)
def unsga3(context: AlgorithmContext) -> PymooAlgorithm:
    """U-NSGA-III: NSGA-III with tournaments, for two and more objectives. Source: Seada & Deb 2016."""
    directions, size = _directions(context), context.config.population
    selection = _seeded(comp_by_rank_and_ref_line_dist)
    return _filled(context, "unsga3", UNSGA3, ref_dirs=directions, pop_size=size, selection=selection)


@register_algorithm("sms_emoa", takes_any=True, asks_ahead=True)
def sms_emoa(context: AlgorithmContext) -> PymooAlgorithm:
    """SMS-EMOA: survival by hypervolume contribution to the worst point seen. Source: Beume et al. 2007."""
    size = context.config.population
    return _filled(context, "sms_emoa", SMSEMOA, pop_size=size, n_offsprings=size)


@register_algorithm("age_moea2", takes_any=True)
def age_moea2(context: AlgorithmContext) -> PymooAlgorithm:
    """AGE-MOEA-II: survival by the estimated geometry of the front; needs numba. Source: Panichella 2022."""
    if find_spec("numba") is None:
        raise ConfigError('search.algorithm = "age_moea2" needs numba: pip install numba.')
    from pymoo.algorithms.moo.age2 import AGEMOEA2

    return _filled(context, "age_moea2", AGEMOEA2, pop_size=context.config.population)


@register_algorithm("spea2", takes_any=True, asks_ahead=True)
def spea2(context: AlgorithmContext) -> PymooAlgorithm:
    """SPEA2: fitness by the strength of the dominating genomes. Source: Zitzler et al. 2001."""
    # pymoo keeps the normalisation in a survival object that all SPEA2 share by default
    survival = SPEA2Survival(normalize=True)
    return _filled(context, "spea2", SPEA2, pop_size=context.config.population, survival=survival)


@register_algorithm("rvea", reads_budget=True, takes_any=True)
def rvea(context: AlgorithmContext) -> PymooAlgorithm:
    """RVEA: reference vectors whose angles count more towards the end of the budget. Source: Cheng et al. 2016."""
    return _filled(context, "rvea", RVEA, ref_dirs=_directions(context), pop_size=context.config.population)


@register_algorithm("ctaea", takes_any=True)
def ctaea(context: AlgorithmContext) -> PymooAlgorithm:
    """C-TAEA: a feasible and a diverse archive that mate with each other. Source: Li et al. 2019."""
    return _filled(context, "ctaea", CTAEA, ref_dirs=_directions(context))
