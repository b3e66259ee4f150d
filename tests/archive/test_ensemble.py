"""Ensembles as data, and the greedy selection against a plain loop."""

import numpy as np
import pytest

from evorec.archive.ensemble import PREFIX, Ensemble, greedy, summed_costs
from evorec.run.directory import ENSEMBLE

MEMBERS = {name: np.random.default_rng(number).normal(size=30) for number, name in enumerate("abcdefg")}
TRUTH = sum(MEMBERS[name] for name in "aabd") / 4 + np.random.default_rng(99).normal(size=30) / 3


def error(counts):
    mean = sum(MEMBERS[name] * n for name, n in counts.items()) / sum(counts.values())
    return float(((mean - TRUTH) ** 2).mean())


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_greedy_adds_the_best_member_and_keeps_the_best_step(most):
    found = greedy(lambda counts: -error(counts), list(MEMBERS), most=most, steps=8)
    bag, path = [], []
    for _ in range(8):
        allowed = [name for name in MEMBERS if len({*bag, name}) <= most]
        errors = [error({one: [*bag, name].count(one) for one in {*bag, name}}) for name in allowed]
        bag.append(allowed[int(np.argmin(errors))])
        path.append((min(errors), {one: bag.count(one) for one in bag}))
    assert found[most] == min(path, key=lambda step: step[0])[1]
    assert len(found[1]) == 1, "a single member is the best single member"
    assert all(len(counts) <= size for size, counts in found.items())
    scores = [error(counts) for _, counts in sorted(found.items())]
    assert scores == sorted(scores, reverse=True), "a larger ensemble is never worse where it was selected"


def test_an_ensemble_is_named_by_its_members_and_weights():
    one, other = Ensemble.of({"b": 1, "a": 3}, {"a": 2}), Ensemble.of({"a": 3, "b": 2}, {"a": 2})
    assert one == Ensemble(("a", "b"), (0.75, 0.25), (1.0, 0.0)) == Ensemble.from_json(one.as_json())
    assert one.key != other.key
    assert one.key == Ensemble.of({"a": 6, "b": 2}, {"a": 1}).key
    assert ENSEMBLE.fullmatch(one.key)
    assert one.key.startswith(PREFIX)
    assert Ensemble.of({}, {"a": 1}).tasks == (0.0,), "without ranked tasks no output is used"


def test_costs_are_summed_and_nothing_else():
    one = {"training_flops": 1e9, "latency_ms": 2.0, "auc/click": 0.7, "parameters": 10.0}
    other = {"training_flops": 2e9, "latency_ms": 3.0, "auc/click": 0.7}
    assert summed_costs([one, other]) == {"training_flops": 3e9, "latency_ms": 5.0}
