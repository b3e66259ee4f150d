"""Algorithms that users bring: pymoo's own, ask/tell objects, and registered ones with options."""

import numpy as np
import pytest
from analytic import Analytic
from pymoo.algorithms.moo.ctaea import CTAEA
from pymoo.algorithms.moo.gde3 import GDE3
from pymoo.algorithms.moo.moead import MOEAD, ParallelMOEAD
from pymoo.algorithms.moo.mopso_cd import MOPSO_CD
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.rvea import RVEA
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.algorithms.moo.spea2 import SPEA2
from pymoo.util.ref_dirs import get_reference_directions
from staged import Staged

from evorec.config import RunConfig, SearchConfig
from evorec.errors import ConfigError, Interruption, RunError
from evorec.objectives import Constraint
from evorec.run.directory import RunDirectory
from evorec.search import algorithm as registry
from evorec.search.algorithm import Options, register_algorithm
from evorec.search.engine import search
from evorec.search.forecast import forecast
from evorec.search.memory.table import Memory
from evorec.space.operators import TypedCrossover, TypedMutation, TypedSampling

CONFIG = SearchConfig(surrogate="none", population=8, generations=4, seed=1)
DIRECTIONS = get_reference_directions("das-dennis", 2, n_partitions=7)
SPACE = Analytic().space
TYPED = {"sampling": TypedSampling(SPACE), "crossover": TypedCrossover(SPACE), "mutation": TypedMutation(SPACE)}
PYMOO = {
    "NSGA-III": lambda: NSGA3(DIRECTIONS, **TYPED),
    "SMS-EMOA": lambda: SMSEMOA(pop_size=8),
    "SPEA2": lambda: SPEA2(pop_size=8, **TYPED),
    "RVEA": lambda: RVEA(DIRECTIONS),
    "C-TAEA": lambda: CTAEA(DIRECTIONS, **TYPED),
    "MOEA/D": lambda: MOEAD(DIRECTIONS, n_neighbors=3, **TYPED),
    "parallel MOEA/D": lambda: ParallelMOEAD(DIRECTIONS, n_neighbors=3),
    "GDE3": lambda: GDE3(pop_size=8),
}


class Halves:
    """Proposes the default and its neighbours, each generation twice, off the grid."""

    def __init__(self):
        self.told = []

    def ask(self):
        x = SPACE.default() + 0.001 * len(self.told)
        return np.stack([x, x])

    def tell(self, X, F, G):
        self.told.append((X, F, G))


def rows(result):
    return [(e.seq, e.genome, e.metrics) for e in result.archive]


@pytest.fixture
def run(tmp_path):
    config = RunConfig(problem="analytic", search=CONFIG)
    with RunDirectory.create(tmp_path, config=config, fingerprint=config.fingerprint("data"), environment={}) as run:
        yield run


@pytest.mark.parametrize("name", PYMOO)
def test_an_algorithm_of_pymoo_keeps_ledger_resume_and_archive(name, run):
    whole = search(Analytic(), CONFIG, algorithm=PYMOO[name]())
    stops = iter([False] * 9)
    with pytest.raises(Interruption, match="interrupted in generation"):
        search(Analytic(), CONFIG, algorithm=PYMOO[name](), run=run, chunk=2, stop=lambda: next(stops, True))
    rest = Analytic()
    result = search(rest, CONFIG, algorithm=PYMOO[name](), run=run, chunk=2)
    assert rows(result) == rows(whole)
    assert 0 < len(rest.evaluated) < result.n_evaluated == len(run.ledger.evaluations()) <= 32
    assert result.reason == f"{len(result.hypervolume)} generations done"
    for row in run.ledger.evaluations():
        np.testing.assert_array_equal(SPACE.snap(np.array([row.genome])), [row.genome])


@pytest.mark.parametrize("name", PYMOO)
def test_an_algorithm_of_pymoo_gets_the_whole_batch_back_from_a_rung(name):
    result = search(Staged((10,)), CONFIG, algorithm=PYMOO[name]())
    assert result.archive
    assert name == "MOEA/D" or result.n_dropped > 0, "nothing is compared with a single genome"


def test_the_same_object_gives_the_same_search_again():
    algorithm = PYMOO["NSGA-III"]()
    assert rows(search(Analytic(), CONFIG, algorithm=algorithm)) == rows(
        search(Analytic(), CONFIG, algorithm=algorithm)
    )
    assert algorithm.problem is None


def test_a_failed_evaluation_has_the_worst_values_for_an_algorithm_of_pymoo():
    result = search(Analytic(fault=lambda spec: "raise" if spec["bias"] else None), CONFIG, algorithm=PYMOO["GDE3"]())
    assert result.n_failed > 0
    assert result.archive


def test_an_algorithm_that_does_not_suit_the_problem_is_refused_with_its_own_words():
    problem = Analytic(constraints=[Constraint("quality", ">=", 0.0, "quality >= 0")])
    with pytest.raises(ConfigError, match=r"MOEAD of pymoo does not suit .* 1 constraints: .*not support any constr"):
        search(problem, CONFIG, algorithm=PYMOO["MOEA/D"]())
    with pytest.raises(ConfigError, match=r"evaluates genomes by itself.* run it with pymoo\.optimize\.minimize"):
        search(Analytic(), CONFIG, algorithm=MOPSO_CD(pop_size=8))
    used = NSGA2(pop_size=8)
    used.problem = object()
    with pytest.raises(ConfigError, match="algorithm NSGA2 was set up before; pass a new object"):
        search(Analytic(), CONFIG, algorithm=used)


def test_an_ask_tell_object_gets_snapped_rows_and_known_values_without_a_second_evaluation():
    problem, algorithm = Analytic(), Halves()
    result = search(problem, CONFIG, algorithm=algorithm)
    assert len(algorithm.told) == CONFIG.generations
    assert result.n_evaluated == len(problem.evaluated) == len({X.tobytes() for X, _, _ in algorithm.told})
    for X, F, G in algorithm.told:
        np.testing.assert_array_equal(X, SPACE.snap(X))
        assert F.shape == (2, 2)
        np.testing.assert_array_equal(F[0], F[1])
        assert G.shape == (2, 1)


def test_a_ledger_is_not_continued_by_another_algorithm(run):
    search(Analytic(), CONFIG, algorithm=PYMOO["SMS-EMOA"](), run=run)
    with pytest.raises(RunError, match="the ledger does not belong to this search"):
        search(Analytic(), CONFIG, run=run)


def test_a_registered_algorithm_takes_its_options_from_the_configuration(monkeypatch):
    monkeypatch.setattr(registry.ALGORITHMS, "_entries", dict(registry.ALGORITHMS))

    class NSGA3Options(Options):
        partitions: int = 4

    @register_algorithm("my_nsga3", options=NSGA3Options)
    def my_nsga3(context):
        directions = get_reference_directions("das-dennis", 2, n_partitions=context.options.partitions)
        return NSGA3(directions, **context.operators())

    config = CONFIG.model_copy(update={"algorithm": "my_nsga3", "options": {"partitions": 7}})
    result = search(Analytic(), config)
    assert len(result.hypervolume) == 4, "8 directions, and 4 generations of 8"
    function = search(Analytic(), CONFIG, algorithm=lambda context: NSGA3(DIRECTIONS, **context.operators()))
    assert rows(function) == rows(result)
    by_default = config.model_copy(update={"options": {}})
    assert forecast(Analytic(), by_default, Memory.empty()).n_evaluations == 32
    with pytest.raises(ConfigError, match=r"search\.options\.partitions: .*valid integer.*got 'many'"):
        search(Analytic(), config.model_copy(update={"options": {"partitions": "many"}}))


def test_options_are_part_of_the_fingerprint_only_if_there_are_any():
    plain = RunConfig()
    assert "options" not in plain.result_settings()["search"]
    assert RunConfig.model_validate(plain.model_dump(mode="json")) == plain
    changed = RunConfig.model_validate({"search": {"options": {"partitions": 6}}})
    assert RunConfig.model_validate(changed.model_dump(mode="json")) == changed
    assert changed.fingerprint("data") != plain.fingerprint("data")
