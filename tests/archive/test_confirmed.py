"""A front as claimed, against means over fresh seeds that are worked out by hand."""

import pytest

from evorec.archive.confirmed import confirmed_front
from evorec.objectives import Constraint, Objective

AXES = (Objective("a", "a", "max", "", ideal=1.0, worst=0.0), Objective("b", "b", "min", "", ideal=0.0, worst=1.0))
LEAST = (Constraint("a", ">=", 0.3, "a >= 0.3"),)
CLAIMED = {
    "lucky": {"a": 0.90, "b": 0.8, "c": 7.0},
    "solid": {"a": 0.75, "b": 0.5, "c": 7.0},
    "small": {"a": 0.35, "b": 0.1, "c": 7.0},
    "wild": {"a": 0.50, "b": 0.3, "c": 7.0},
}
FRESH = {
    "lucky": [{"a": 0.625, "b": 0.8}, {"a": 0.375, "b": 0.8}],  # a mean .5: dominated by solid
    "solid": [{"a": 0.8, "b": 0.5}, {"a": 0.7, "b": 0.5}, {"a": 0.1, "b": 0.5}],  # a third seed counts for none
    "small": [{"a": 0.45, "b": 0.1}, {"a": 0.05, "b": 0.1}],  # a mean .25 < .3
    "wild": [{"a": 0.9, "b": 0.0}, "diverged"],
}


def test_the_front_of_the_means_is_that_worked_out_by_hand():
    found = confirmed_front(CLAIMED, FRESH, AXES, LEAST)
    assert found.n_seeds == 2
    assert found.depends_on_seed
    standing = {key: member.standing for key, member in found.members.items()}
    assert standing == {"lucky": "dominated", "solid": "member", "small": "infeasible", "wild": "failed"}
    assert found.members["wild"].failure == "diverged"
    assert found.members["wild"].means == {}
    assert found.members["lucky"].means == pytest.approx({"a": 0.5, "b": 0.8})  # c was not measured again
    assert found.members["lucky"].sds == pytest.approx({"a": 0.125 * 2**0.5, "b": 0.0})  # two values .25 apart
    assert found.front == {"solid": {"a": 0.75, "b": 0.5}}
    assert found.share == 0.25
    # Claimed, by strips of a: .35 x .9, then to .5 x .7, to .75 x .5, to .9 x .2; confirmed: solid's .75 x .5.
    assert found.hypervolumes == pytest.approx((0.35 * 0.9 + 0.15 * 0.7 + 0.25 * 0.5 + 0.15 * 0.2, 0.375))


def test_equal_means_do_not_dominate_each_other_and_equal_values_need_no_second_seed():
    claimed = {"x": {"a": 0.5, "b": 0.5}, "y": {"a": 0.5, "b": 0.5}}
    found = confirmed_front(claimed, {key: [dict(claimed[key])] for key in claimed}, AXES, ())
    assert found.share == 1.0
    assert not found.depends_on_seed
    assert found.members["x"].sds == {"a": 0.0, "b": 0.0}


@pytest.mark.parametrize("fresh", [{}, {"x": [{"a": 0.5, "b": 0.5}]}])
def test_a_front_with_a_member_that_was_not_trained_again_is_not_confirmed(fresh):
    claimed = {"x": {"a": 0.5, "b": 0.5}, "y": {"a": 0.4, "b": 0.4}}
    assert confirmed_front(claimed, fresh, AXES, ()) is None
    assert confirmed_front({}, fresh, AXES, ()) is None
