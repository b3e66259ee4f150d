"""DEAP's own loops on a problem with a known front, and the rules of a fitness under constraints."""

import copy
import pickle
import random

import numpy as np
import pytest
from analytic import BEST, Analytic
from deap import algorithms, tools

from evorec.objectives import Constraint
from evorec.search.deap_toolbox import Values, as_deap, fitness_kind
from evorec.search.executors import ThreadExecutor

ROUNDING = 1e-12  # a handful of float64 operations


def fitness(*values, violation=0.0):
    made = fitness_kind(len(values))()
    made.values = Values.of(np.array(values), violation)
    return made


def evaluated(toolbox, n):
    population = toolbox.population(n=n)
    for individual, values in zip(population, toolbox.map(toolbox.evaluate, population), strict=True):
        individual.fitness.values = values
    return population


def test_values_are_those_of_the_problem_to_be_minimised():
    problem = Analytic(constraints=[Constraint("quality", ">=", 0.5, "quality >= 0.5")])
    toolbox = as_deap(problem, seed=0)
    individual = toolbox.individual()
    individual[:] = problem.space.encode({"effort": 0.25, **BEST}).tolist()
    individual.fitness.values = toolbox.evaluate(individual)
    # By hand: quality 0.25, cost 1 + 0.25 ** 2; the bound 0.5 is missed by half of itself, r / (1 + r) = 1/3.
    np.testing.assert_allclose(individual.fitness.values, [-0.25, 1.0625], atol=ROUNDING)
    assert individual.fitness.violation == pytest.approx(1 / 3, abs=ROUNDING)
    assert toolbox.decode(individual) == problem.space.decode(problem.space.encode({"effort": 0.25, **BEST}))


def test_a_generation_is_evaluated_in_stacks_and_each_genome_once():
    problem = Analytic()
    toolbox = as_deap(problem, seed=0, executor=ThreadExecutor(2), chunk=8)
    stacks = []
    whole = problem.evaluate
    problem.evaluate = lambda specs, **how: stacks.append(len(specs)) or whole(specs, **how)
    population = evaluated(toolbox, 16)
    assert len(stacks) < 16
    assert sum(stacks) == 16
    list(toolbox.map(toolbox.evaluate, population))
    assert sum(stacks) == 16


def test_a_population_has_different_genomes_and_begins_with_the_default():
    problem = Analytic()
    population = as_deap(problem, seed=0).population(n=30)
    assert len({problem.space.key(np.array(individual)) for individual in population}) == 30
    np.testing.assert_array_equal(population[0], problem.space.snap(problem.space.default()[None])[0])


def test_a_child_is_a_genome_of_the_space_and_the_parents_are_changed_in_place():
    problem = Analytic()
    toolbox = as_deap(problem, seed=3)
    first, second = toolbox.individual(), toolbox.individual()
    before = list(first)
    (mutant,) = toolbox.mutate(first)
    assert mutant is first
    assert mutant != before
    children = toolbox.mate(first, second)
    assert children[0] is first
    assert children[1] is second
    np.testing.assert_array_equal(problem.space.snap(np.array(children)), np.array(children))


def test_the_same_seed_breeds_the_same_genomes():
    def bred(seed):
        toolbox = as_deap(Analytic(), seed=seed)
        first, second = toolbox.population(n=2)
        return [*toolbox.mate(first, second), *toolbox.mutate(toolbox.individual())]

    assert bred(1) == bred(1)
    assert bred(1) != bred(2)


def test_a_function_of_the_users_own_is_mapped_one_by_one():
    toolbox = as_deap(Analytic(), seed=0)
    assert toolbox.map(lambda a, b: a + b, [1, 2], [10, 20]) == [11, 22]
    assert toolbox.map(toolbox.evaluate, []) == []


def test_feasible_dominates_infeasible_whatever_the_values():
    worse, better = fitness(9.0, 9.0), fitness(1.0, 1.0, violation=0.1)
    assert worse.dominates(better)
    assert not better.dominates(worse)
    assert fitness(9.0, 9.0, violation=0.1).dominates(fitness(1.0, 1.0, violation=0.2))
    assert fitness(1.0, 2.0).dominates(fitness(1.0, 3.0))
    assert not fitness(1.0, 2.0).dominates(fitness(2.0, 1.0))
    assert not fitness(1.0, 2.0).dominates(fitness(1.0, 2.0))


def test_a_fitness_without_values_has_no_violation_either():
    made = fitness(1.0, 2.0, violation=0.5)
    del made.values
    assert not made.valid
    assert made.violation == 0
    made.values = (3.0, 4.0)
    assert made.values == (3.0, 4.0)


def test_selection_takes_feasible_genomes_first_then_the_least_infeasible():
    toolbox = as_deap(Analytic(), seed=0)
    kinds = [(1.0, 1.0, 0.9), (5.0, 5.0, 0.0), (2.0, 2.0, 0.3), (4.0, 6.0, 0.0), (3.0, 3.0, 0.3)]
    population = toolbox.population(n=len(kinds))
    for individual, (a, b, violation) in zip(population, kinds, strict=True):
        individual.fitness.values = Values.of(np.array([a, b]), violation)
    chosen = toolbox.select(population, 3)
    # both feasible ones, then of the two that violate least the one with the better values
    assert sorted(individual.fitness.values for individual in chosen) == [(2.0, 2.0), (4.0, 6.0), (5.0, 5.0)]


def test_a_front_forgets_infeasible_genomes_once_it_meets_a_feasible_one():
    toolbox = as_deap(Analytic(), seed=0)
    population = toolbox.population(n=2)
    population[0].fitness.values = Values.of(np.array([0.0, 0.0]), 0.2)
    population[1].fitness.values = Values.of(np.array([1.0, 1.0]), 0.0)
    front = tools.ParetoFront()
    front.update(population)
    assert [individual.fitness.values for individual in front] == [(1.0, 1.0)]


def test_a_failed_evaluation_is_finite_and_the_worst_of_all(caplog):
    bound = Constraint("quality", ">=", 0.9, "quality >= 0.9")
    problem = Analytic(constraints=[bound], fault=lambda spec: "nan" if spec["effort"] > 0.5 else None)
    toolbox = as_deap(problem, seed=0)
    population = toolbox.population(n=2)
    for individual, effort in zip(population, (0.1, 0.9), strict=True):
        individual[:] = problem.space.encode({"effort": effort, **BEST}).tolist()
        individual.fitness.values = toolbox.evaluate(individual)
    misses, failed = (individual.fitness for individual in population)
    assert np.isfinite(failed.values).all()
    assert 0 < misses.violation < failed.violation
    assert misses.dominates(failed)
    assert "failed: metric" in caplog.text


def test_an_individual_survives_copying_and_pickling():
    (individual,) = evaluated(as_deap(Analytic(), seed=0), 1)
    individual.fitness.violation = 0.25
    for other in (copy.deepcopy(individual), pickle.loads(pickle.dumps(individual))):
        assert other == individual
        assert other.fitness == individual.fitness
        assert (other.fitness.values, other.fitness.violation) == (individual.fitness.values, 0.25)
        other[0] = -1.0
        assert individual[0] != -1.0


def test_a_loop_of_deap_finds_feasible_trade_offs():
    problem = Analytic(constraints=[Constraint("quality", ">=", 0.0, "quality >= 0")])
    toolbox = as_deap(problem, seed=1)
    random.seed(1)
    front = tools.ParetoFront()
    population, log = algorithms.eaMuPlusLambda(
        toolbox.population(n=16), toolbox, 16, 16, cxpb=0.6, mutpb=0.4, ngen=15, halloffame=front, verbose=False
    )
    assert len(log) == 16
    assert len(population) == 16
    assert len(front) > 3
    assert all(individual.fitness.violation == 0 for individual in front)
    quality, cost = -np.array([individual.fitness.values for individual in front]).T
    assert quality.max() - quality.min() > 0.3
    assert (np.diff(cost[np.argsort(quality)]) <= 0).all()


def test_tournaments_of_deap_know_the_constraints():
    toolbox = as_deap(Analytic(constraints=[Constraint("quality", ">=", 0.3, "quality >= 0.3")]), seed=2)
    population = toolbox.select(evaluated(toolbox, 16), 16)
    random.seed(0)
    parents = tools.selTournamentDCD(population, 16)
    share = np.mean([individual.fitness.violation == 0 for individual in population])
    assert np.mean([individual.fitness.violation == 0 for individual in parents]) >= share
