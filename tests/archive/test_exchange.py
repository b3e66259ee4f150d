"""Exchange rates and gaps, worked by hand."""

import pytest

from evorec.archive.exchange import exchanges, gaps
from evorec.objectives import Objective

RECALL = Objective("recall", "recall@20", "max", "", 1.0, 0.0)
COST = Objective("cost", "training_flops", "min", "FLOP", 1e5, 1e12, log10=True)
GAP = Objective("gap", "group_gap@20", "min", "", 0.0, 1.0)
ERROR = Objective("error", "rmse/watch", "min", "s", 0.0, 60.0)


def front(axes, **rows):
    return {key: dict(zip((axis.metric for axis in axes), row, strict=True)) for key, row in rows.items()}


@pytest.mark.parametrize(
    ("axes", "own", "its", "texts"),
    [
        # 6 points for a factor of 8, so 8 ** (1/6) = 1.41 a point
        ((RECALL, COST), (0.10, 1e6), (0.16, 8e6), ["one more point of recall costs 1.41 times the cost"]),
        # three halvings for 6 points
        ((RECALL, COST), (0.16, 8e6), (0.10, 1e6), ["halving the cost costs 0.02 recall"]),
        # shorter steps than a unit are stated as they are
        ((RECALL, COST), (0.100, 1e6), (0.106, 8e6), ["0.006 more recall costs 8 times the cost"]),
        ((RECALL, COST), (0.106, 8e6), (0.10, 6e6), ["0.75 times the cost costs 0.006 recall"]),
        ((GAP, ERROR), (0.10, 8.0), (0.05, 10.0), ["one point less of gap costs 0.4 s error"]),
        ((GAP, ERROR), (0.05, 10.0), (0.10, 8.0), ["one s less of error costs 0.025 gap"]),
        # a third objective that gets better, too
        ((RECALL, COST, GAP), (0.1, 1e6, 0.3), (0.2, 2e6, 0.2),
         ["one more point of recall costs 1.07 times the cost and gives 0.01 gap",
          "one point less of gap costs 1.07 times the cost and gives 0.01 recall"]),
        # dominated, as after another measurement
        ((RECALL, COST), (0.1, 4e6), (0.2, 1e6),
         ["one more point of recall costs nothing and gives 0.871 times the cost",
          "halving the cost costs nothing and gives 0.05 recall"]),
    ],
)  # fmt: skip
def test_a_rate_is_per_point_per_halving_or_the_step_itself(axes, own, its, texts):
    members = front(axes, a=own, b=its)
    assert [exchange.text.partition(" (")[0] for exchange in exchanges("a", members, axes)] == texts


def test_the_neighbour_is_the_nearest_that_is_better_by_more_than_rounding():
    axes = (RECALL, COST)
    members = front(axes, a=(0.2, 1e7), b=(0.21, 2e7), c=(0.3, 1e9), d=(0.10, 9.9e6), e=(0.0, 1e5))
    better, cheaper = exchanges("a", members, axes)
    assert (better.member, better.own, better.its) == ("b", 0.2, 0.21)
    # d is nearer and cheaper by 0.1 % of the range only
    assert cheaper.member == "e"
    (left,) = exchanges("c", members, axes)
    assert left.objective == "cost", "no member has a higher recall"


def test_gaps_are_the_largest_jumps_and_the_largest_share_comes_first():
    axes = (RECALL, COST)
    members = front(axes, a=(0.0, 1e5), b=(0.1, 1e6), c=(0.7, 1e7), d=(1.0, 1e9))
    assert [gap.text for gap in gaps(members, axes)] == [
        "recall: no member between 0.1 (b) and 0.7 (c): 0.6, 60 % of its range",
        "cost: no member between 1e+07 (c) and 1e+09 (d): a factor of 100, 50 % of its range",
    ]
    assert gaps({"a": members["a"]}, axes) == ()
    assert gaps({}, axes) == ()
