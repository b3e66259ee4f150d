"""Objectives, constraints and the catalogue."""

import math

import numpy as np
import pytest

from evorec.config import Box, QuantileKind, merge, parse_config
from evorec.errors import ConfigError, DataError
from evorec.metrics.metric import METRICS
from evorec.objectives import (
    Constraint,
    Objective,
    build_objectives,
    check_metrics,
    find_metric,
    parse_constraint,
    resolve,
    to_matrices,
    wanted_metrics,
)

RECALL = Objective("recall@20", "recall@20", "max", "", ideal=1.0, worst=0.0)
COST = Objective("cost", "training_flops", "min", "FLOP", ideal=1e6, worst=1e10, log10=True)
POPULARITY = {"popularity": {"recall@20": 0.08, "accuracy": 0.6}}
EXACT = 1e-12  # a few roundings of numbers near 1


def test_only_a_maximised_objective_changes_its_sign():
    assert RECALL.minimised([0.25, -1.0]).tolist() == [-0.25, 1.0]
    assert COST.minimised([5.0]).tolist() == [5.0]


def test_normalised_is_zero_at_ideal_one_at_worst_and_goes_beyond():
    assert RECALL.normalised([1.0, 0.0, 0.25, -0.5]).tolist() == [0.0, 1.0, 0.75, 1.5]
    # log10: 1e6 -> 6, 1e10 -> 10, 1e7 is a quarter of the way, 1e5 a quarter before
    np.testing.assert_allclose(COST.normalised([1e6, 1e10, 1e7, 1e5]), [0.0, 1.0, 0.25, -0.25], atol=EXACT)


def test_a_cost_of_zero_has_a_finite_place():
    assert np.isfinite(COST.normalised([0.0])).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("max", 0.0, 1.0), r"box\.x must have its ideal above its worst, got ideal 0 and worst 1"),
        (("min", 1.0, 0.0), r"box\.x must have its ideal below its worst"),
        (("min", 1.0, 1.0), r"box\.x must have its ideal below its worst"),
        (("min", 0.0, math.inf), r"box\.x must have finite corners"),
        (("up", 0.0, 1.0), r"direction of x must be 'max' or 'min', got 'up'"),
        (("min", 0.0, 1.0, True), r"box\.x is divided on a log scale and must be above 0"),
    ],
)
def test_an_objective_refuses_an_impossible_box(arguments, message):
    direction, ideal, worst, *log10 = arguments
    with pytest.raises(ConfigError, match=message):
        Objective("x", "x", direction, "", ideal, worst, *log10)


def test_violation_is_relative_and_stays_below_that_of_a_failure():
    at_most = Constraint("parameters", "<=", 100.0, "parameters <= 100")
    # excess: -50, 0, 100, 900 -> relative -0.5, 0, 1, 9 -> r / (1 + r): 0.5, 0.9
    np.testing.assert_allclose(at_most.violation([50, 100, 200, 1000]), [-0.5, 0.0, 0.5, 0.9], atol=EXACT)
    at_least = Constraint("recall@20", ">=", 0.5, "")
    np.testing.assert_allclose(at_least.violation([0.75, 0.5, 0.0]), [-0.5, 0.0, 0.5], atol=EXACT)
    assert at_most.violation([1e12])[0] < 1.0
    assert at_most.holds([100, 100.1]).tolist() == [True, False]


def test_a_bound_of_zero_is_measured_on_the_metric_s_own_scale():
    assert Constraint("x", "<=", 0.0, "").violation([-1.0, 1.0]).tolist() == [-1.0, 0.5]


def test_violation_grows_with_the_distance():
    rng = np.random.default_rng(3)
    values = np.sort(rng.normal(size=200) * 10.0 ** rng.uniform(-3, 3, size=200))
    assert (np.diff(Constraint("x", "<=", 2.0, "").violation(values)) > 0).all(), "seed 3"
    assert (np.diff(Constraint("x", ">=", 2.0, "").violation(values)) < 0).all(), "seed 3"


def a_kind(name):
    """Of a task that has the metric."""
    kinds = {"binary": "binary", "regression": "regression", "quantile": QuantileKind(quantile=0.9)}
    return next(kind for kind_of, kind in kinds.items() if kind_of in (METRICS[name].kinds or kinds))


@pytest.mark.parametrize("name", METRICS)
def test_every_catalogue_entry_resolves_and_makes_an_objective(name):
    written = name.replace("<task>", "click")
    key = resolve(written, 20, tasks={"click": a_kind(name)})
    assert find_metric(key) is METRICS[name]
    assert "@k" not in key
    corners = (1e3, 1e6) if METRICS[name].direction == "min" else (1e6, 1e3)
    (objective,) = build_objectives(
        [written], k=20, box={}, cost_bounds={key: corners} if METRICS[name].ideal is None else {}
    )
    assert (objective.metric, objective.direction) == (key, METRICS[name].direction)
    assert METRICS[name].text


def test_every_alias_is_a_name_of_its_metric():
    assert find_metric("cost") is METRICS["training_flops"]
    for metric in METRICS.values():
        assert all(find_metric(alias) is metric for alias in metric.aliases)


def test_names_resolve_to_measured_keys():
    assert resolve("diversity", 20) == resolve("diversity@k", 20) == "intra_list_distance@20"
    assert resolve("cost", 20) == "training_flops"
    assert resolve("recall@k", 20) == resolve("recall@20", 20) == "recall@20"
    assert resolve("auc/click", 20) == "auc/click"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recal@k", r"'recal@k' is not a metric; did you mean 'recall@k'\?"),
        ("auc", "'auc' is not a metric; known:"),
        ("auc/", "'auc/' is not a metric"),
        ("auc/<task>", "'auc/<task>' is not a metric"),
        ("recall", "'recall' is not a metric"),
        ("recall@10", r"recall@10 is not measured: lists have 20 items \(evaluation.k\); write recall@k"),
        ("auc/share", "auc/share: 'share' is not a ranked task; known: click, like"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(name, message):
    with pytest.raises(ConfigError, match=message):
        resolve(name, 20, tasks={"click": "binary", "like": "binary"})


KINDS = {"click": "binary", "watch": "regression", "long": QuantileKind(quantile=0.9)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "auc/watch",
            "auc/watch is not measured: watch is regression .* it has concordance/watch, .* mae/watch, rmse/",
        ),
        ("rmse/long", "rmse/long is not measured: long is quantile .* it has concordance/long, .* pinball/long"),
        ("concordance/click", "click is binary .* it has auc/click, .* gauc/click, .* logloss/click"),
        ("mae/buy", "mae/buy: 'buy' is not a ranked task; known: click, watch, long"),
    ],
)
def test_a_metric_of_another_kind_of_task_is_refused_with_those_of_the_task(name, message):
    with pytest.raises(ConfigError, match=message):
        resolve(name, 20, tasks=KINDS)
    with pytest.raises(ConfigError, match=message):
        parse_constraint(f"{name} >= 0.1", k=20, baselines={}, tasks=KINDS)


def test_an_error_gets_its_corners_from_the_data_or_from_a_box():
    corners = {"rmse/watch": (0.0, 40.0)}
    (error,) = build_objectives(["rmse/watch"], k=20, box={}, cost_bounds=corners, tasks=KINDS)
    assert (error.direction, error.ideal, error.worst, error.log10) == ("min", 0.0, 40.0, False)
    box = {"rmse/watch": Box(ideal=10.0, worst=30.0)}
    (error,) = build_objectives(["rmse/watch"], k=20, box=box, cost_bounds=corners, tasks=KINDS)
    assert error.normalised([20.0]).tolist() == [0.5]


def test_box_replaces_usual_corners_by_any_name():
    objectives = build_objectives(
        ["accuracy", "recall@k", "diversity", "cost"],
        k=20,
        box={"recall@k": Box(ideal=0.5, worst=0.1), "intra_list_distance@20": Box(ideal=0.9, worst=0.2)},
        cost_bounds={"training_flops": (1e6, 1e9)},
    )
    assert [(o.name, o.metric, o.ideal, o.worst, o.log10) for o in objectives] == [
        ("accuracy", "accuracy", 1.0, 0.5, False),
        ("recall@20", "recall@20", 0.5, 0.1, False),
        ("diversity", "intra_list_distance@20", 0.9, 0.2, False),
        ("cost", "training_flops", 1e6, 1e9, True),
    ]


def test_objective_mistakes_are_listed_together():
    with pytest.raises(ConfigError) as caught:
        build_objectives(
            ["acuracy", "recall@k", "recall@20", "latency_ms"], k=20, box={"cst": Box(ideal=1, worst=2)}, cost_bounds={}
        )
    lines = str(caught.value).splitlines()
    assert [line.split(";")[0] for line in lines] == [
        "box: 'cst' is not a metric",
        "objectives: 'acuracy' is not a metric",
        "objectives: recall@20 and recall@20 are the same metric",
        "objectives: latency_ms has no usual bounds",
    ]


def test_a_box_of_a_metric_that_is_no_objective_lies_ready():
    (accuracy,) = build_objectives(["accuracy"], k=20, box={"cost": Box(ideal=1, worst=2)}, cost_bounds={})
    assert accuracy.metric == "accuracy"


def test_constraints_read_numbers_and_baselines():
    def read(text):
        constraint = parse_constraint(text, k=20, baselines=POPULARITY)
        return constraint.metric, constraint.op, constraint.bound, constraint.text

    assert read("auc/click >= 0.7") == ("auc/click", ">=", 0.7, "auc/click >= 0.7")
    assert read(" parameters<=1e6 ") == ("parameters", "<=", 1e6, "parameters<=1e6")
    assert read("recall@k >= 0.5 * popularity") == ("recall@20", ">=", 0.04, "recall@k >= 0.5 * popularity")
    assert read("recall@k >= popularity")[2] == 0.08
    assert read("novelty@k >= -.5")[2] == -0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recall@k > 0.1", "must read METRIC >= NUMBER"),
        ("recall@k", "must read METRIC >= NUMBER"),
        ("recall@k >= 0.1 extra", "must read METRIC >= NUMBER"),
        (">= 0.1", "must read METRIC >= NUMBER"),
        ("recal@k >= 0.1", "'recal@k' is not a metric"),
        ("recall@k >= 0.9 * populrity", "names the baseline 'populrity'; did you mean 'popularity'"),
        ("cost <= 2 * popularity", "popularity has no training_flops; it has recall@20, accuracy"),
    ],
)
def test_a_constraint_that_cannot_be_read_says_why(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_constraint(text, k=20, baselines=POPULARITY)


def test_matrices_flip_signs_and_put_failures_in_the_worst_corner():
    constraint = Constraint("recall@20", ">=", 0.25, "")
    rows = [{"recall@20": 0.5, "training_flops": 1e7}, None, {"recall@20": 0.125, "training_flops": 1e8}]
    F, G = to_matrices(rows, [RECALL, COST], [constraint])
    assert F.tolist() == [[-0.5, 1e7], [0.0, 1e10], [-0.125, 1e8]]
    # recall 0.125 is half the bound short: r = 0.5 -> 1/3
    np.testing.assert_allclose(G, [[-1.0], [1.0], [1 / 3]], atol=EXACT)


def test_without_constraints_one_column_marks_failures():
    F, G = to_matrices([None, {"recall@20": 0.5}], [RECALL], [])
    assert F.tolist() == [[0.0], [-0.5]]
    assert G.tolist() == [[1.0], [0.0]]
    empty_f, empty_g = to_matrices([], [RECALL, COST], [])
    assert (empty_f.shape, empty_g.shape) == ((0, 2), (0, 1))


@pytest.mark.parametrize("row", [{"recall@20": math.nan}, {"recall@20": math.inf}, {}])
def test_nan_never_reaches_a_matrix(row):
    with pytest.raises(DataError, match="recall@20 of evaluation 1 must be a finite number"):
        to_matrices([{"recall@20": 0.1}, row], [RECALL], [])


CHOICES = {
    "tasks": {"ranked": ["click", "pain", "pay"], "target": "click", "lower_is_better": ["pain"],
              "kinds": {"pay": "regression"}},
    "evaluation": {"spend": "pay"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": ["gain/pain"]}, "gain/pain: pain is in tasks.lower_is_better; write harm/pain."),
        ({"constraints": ["cost_per/pain <= 3"]}, "cost_per/pain: pain is in tasks.lower_is_better; write harm/pain."),
        (
            {"finalize": {"picks": ["accuracy where harm/click <= 3"]}},
            "harm/click: click is not in tasks.lower_is_better; write gain/click, or name it there.",
        ),
        (
            {"box": {"harm/click": {"ideal": 0, "worst": 1}}, "objectives": ["harm/click"]},
            "harm/click: click is not in tasks.lower_is_better; write gain/click, or name it there.",
        ),
        (
            {"objectives": ["cost_per/click"], "evaluation": {"spend": ""}},
            "cost_per/click needs evaluation.spend, the ranked task whose label is the cost of a row.",
        ),
        (
            {"constraints": ["group_gap@k <= 1.0 * popularity"]},
            "group_gap@k needs evaluation.groups, the column of the user table that states the groups.",
        ),
        (
            {"finalize": {"picks": ["sparsity"]}},
            "finalize.picks: sparsity is measured only where it is an objective or a constraint.",
        ),
        (
            {"evaluation": {"spend": "click"}},
            "evaluation.spend must be a ranked task whose labels are numbers, ['pay']; got 'click'.",
        ),
        (
            {"objectives": ["cost", "gain/click"], "search": {"algorithm": "weighted_sum", "weights": [1, 2, 3]}},
            "search.weights must have a number for each of cost, gain/click, got [1.0, 2.0, 3.0].",
        ),
    ],
)
def test_metrics_that_contradict_the_tasks_are_refused_with_what_to_write(changes, message):
    check_metrics(parse_config(merge(CHOICES, {"objectives": ["gain/click", "harm/pain", "cost_per/click"]})))
    with pytest.raises(ConfigError) as caught:
        check_metrics(parse_config(merge(CHOICES, changes)))
    assert str(caught.value) == message


def test_the_metrics_of_objectives_and_constraints_are_wanted():
    texts = {"objectives": ["cost", "gain/click", "acuracy"], "constraints": ["recall@k >= popularity", "???"]}
    assert wanted_metrics(parse_config(texts)) == {"training_flops", "gain/click", "recall@20"}
