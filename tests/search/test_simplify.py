"""Setting genes back to their defaults within seed noise, on a problem whose useful genes are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from evorec.errors import TrainingError
from evorec.objectives import Constraint, Objective
from evorec.problem import Outcome, Problem
from evorec.search.simplify import simplify
from evorec.seeds import child_seed, generator
from evorec.space.genes import Boolean, Integer, Real, When
from evorec.space.space import SearchSpace

NOISE = 0.01
GENES = (
    Real("useful", 0.0, 1.0, default=0.5),
    Real("idle", 0.0, 1.0, default=0.5),
    Boolean("switch", default=False),
    Integer("depth", 1, 8, default=4, condition=When("switch", (True,))),
    Integer("size", 1, 64, default=32),
    *(Real(f"noise{i}", 0.0, 1.0, default=0.5) for i in range(5)),
)
SPEC = {
    "useful": 0.9, "idle": 0.1, "switch": True, "depth": 7, "size": 16, **{f"noise{i}": i / 5 for i in range(5)},
}  # fmt: skip


class Noisy(Problem):
    """Quality depends on `useful`, cost on `size`; all other genes do nothing."""

    name = "noisy"
    data_sha256 = "0" * 64
    space = SearchSpace(GENES)
    objectives = (Objective("quality", "quality", "max", "", 1.0, 0.0), Objective("cost", "cost", "min", "", 1.0, 64.0))
    constraints: tuple[Constraint, ...] = ()
    fails: Any = staticmethod(lambda spec: False)

    def shape_key(self, spec: Any) -> tuple[()]:
        return ()

    def evaluate(self, specs: Sequence[Any], *, seed: int, rung: Any = None, states: Any = None) -> list[Outcome]:
        assert seed == self.seed, "only the problem of a seed is evaluated with it"
        out = []
        for spec in specs:
            noise = generator(seed, "noise").normal(0, NOISE)  # equal for all: streams are keyed by the seed
            metrics = {"quality": spec["useful"] / 2 + noise, "cost": float(spec["size"]), "extra": spec["idle"]}
            out.append(Outcome(None, "diverged") if self.fails(spec) else Outcome(metrics))
        return out

    def baselines(self) -> dict[str, Any]:
        return {}


def test_genes_without_effect_are_set_back_and_the_others_stay() -> None:
    found = simplify(Noisy(), SPEC, n_seeds=4)
    assert found.spec == {
        "useful": 0.9,
        "idle": 0.5,
        "switch": False,
        "size": 16,
        **{f"noise{i}": 0.5 for i in range(5)},
    }
    assert found.left == ("useful", "size"), "the default of size costs more"
    assert {reset.gene: (reset.was, reset.now) for reset in found.resets}["depth"] == (7, None)
    assert {reset.gene for reset in found.resets} == set(SPEC) - {"useful", "size"}


def test_the_result_is_measured_with_seeds_that_did_not_choose_it() -> None:
    found = simplify(Noisy(), SPEC, n_seeds=4)
    noises = {
        purpose: [generator(child_seed(0, purpose, i), "noise").normal(0, NOISE) for i in range(4)]
        for purpose in ("simplify", "simplify-compare")
    }
    quality, cost = found.comparisons
    assert quality.noise == pytest.approx(np.std(noises["simplify"], ddof=1))
    fresh = 0.45 + np.array(noises["simplify-compare"])
    assert quality.before == quality.after == (pytest.approx(fresh.mean()), pytest.approx(fresh.std(ddof=1)))
    assert (cost.before, cost.after, cost.noise, cost.within) == ((16.0, 0.0), (16.0, 0.0), 0.0, True)


def test_a_loss_within_the_noise_is_taken_and_a_loss_beyond_it_is_not() -> None:
    sd = np.std([generator(child_seed(0, "simplify", i), "noise").normal(0, NOISE) for i in range(5)], ddof=1)
    for loss, is_reset in ((0.8 * sd, True), (1.3 * sd, False)):
        spec = {**SPEC, "useful": round(0.5 + 2 * loss, 3)}
        assert ("useful" not in simplify(Noisy(), spec).left) == is_reset


def test_a_reset_that_fails_or_breaks_a_limit_is_kept_out() -> None:
    problem = Noisy()
    problem.fails = lambda spec: spec["noise0"] == 0.5
    problem.constraints = (Constraint("extra", "<=", 0.3, "extra <= 0.3"),)
    assert set(simplify(problem, SPEC).left) == {"useful", "size", "noise0", "idle"}
    problem.constraints = (Constraint("extra", ">=", 0.3, "extra >= 0.3"),)
    assert "idle" not in simplify(problem, SPEC).left, "a limit that the member breaks forbids nothing"


def test_the_default_genome_is_the_simplest_and_a_member_that_fails_is_refused() -> None:
    problem = Noisy()
    default = problem.space.decode(problem.space.default())
    found = simplify(problem, default, n_seeds=2)
    assert (found.spec, found.resets, found.left, found.n_trainings) == (default, (), (), 4)
    problem.fails = lambda spec: problem.fails is not None
    with pytest.raises(TrainingError, match="the member fails with seed 1 of 5"):
        simplify(problem, default)


def test_everything_at_once_takes_few_trainings() -> None:
    spec = {**SPEC, "useful": 0.5, "size": 32}
    # 5 of the member, 8 resets, then 8, 4, 2, 1 resets and two singles with 5 seeds, then 2 x 5 for the comparison
    assert simplify(Noisy(), spec).n_trainings <= 5 + 8 + 6 * 5 + 10
