"""Picking a member by a sentence."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evorec.archive.decide import check_pick, choices, choose, pick, scaled
from evorec.archive.exchange import exchanges, gaps
from evorec.archive.pareto import non_dominated
from evorec.errors import ConfigError
from evorec.objectives import Objective

MEMBERS = {
    "m1": {
        "accuracy": 0.80,
        "auc/click": 0.70,
        "recall@20": 0.10,
        "catalogue_coverage@20": 0.20,
        "training_flops": 1e9,
    },
    "m2": {
        "accuracy": 0.78,
        "auc/click": 0.75,
        "recall@20": 0.18,
        "catalogue_coverage@20": 0.40,
        "training_flops": 1e7,
    },
    "m3": {
        "accuracy": 0.70,
        "auc/click": 0.72,
        "recall@20": 0.20,
        "catalogue_coverage@20": 0.35,
        "training_flops": 1e6,
    },
}
OBJECTIVES = (
    Objective("accuracy", "accuracy", "max", "", 1.0, 0.5),
    Objective("recall@20", "recall@20", "max", "", 1.0, 0.0),
    Objective("cost", "training_flops", "min", "FLOP", 1e5, 1e10, log10=True),
)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("accuracy", "m1"),
        ("auc/click", "m2"),
        ("recall@k", "m3"),
        ("recall@20", "m3"),
        ("cost", "m3"),
        (" accuracy  where catalogue_coverage@k >= 0.30 ", "m2"),
        ("accuracy where catalogue_coverage@k >= 0.30 and cost <= 2e6", "m3"),
        ("cost where accuracy >= 0.8", "m1"),
        # scaled to the front: m1 (0, 1, 1) = 2.0, m2 (0.2, 0.2, 1/3) = 0.73, m3 (1, 0, 0) = 1.0
        ("knee", "m2"),
        ("knee where recall@k >= 0.19", "m3"),
        ("best:accuracy", "m1"),
        ("best:recall", "m3"),
        ("recall", "m3"),
        ("best:cost", "m3"),
        ("best: recall , cost >= 2e6", "m2"),
        ("best:accuracy,cost<=2e7,recall>=0.19", "m3"),
        ("knee,recall>=0.19", "m3"),
        ("best:accuracy where catalogue_coverage >= 0.30, cost <= 2e6", "m3"),
        ("cheapest", "m3"),
        ("cheapest, recall<=.19", "m2"),
        # distance to (0, 0, 0) in the same scale: m1 1.41, m2 sqrt(.04 + .04 + 1/9) = .44, m3 1
        ("ideal", "m2"),
        ("ideal where recall >= 0.19", "m3"),
        # shares of the range: m1 accuracy 1, cost 0; m2 .8, 2/3; m3 0, 1; as proportions 1:0, .545:.455, 0:1
        ("weights accuracy=1 cost=1", "m2"),
        ("weights accuracy=9 cost=1", "m1"),
        ("weights accuracy=.1 training_flops=9.9", "m3"),
        ("weights accuracy=9 cost=1 where recall >= .15", "m2"),
        # in recall and coverage alone, m3 (1, .75) and m2 (.8, 1) are the front; m1 is not
        ("weights recall=1 catalogue_coverage=1.2", "m2"),
        ("recall where catalogue_coverage >= 1.5 * popularity", "m2"),
        ("recall where catalogue_coverage >= popularity", "m3"),
    ],
)
def test_a_sentence_picks_the_member_it_means(text, key):
    baselines = {"popularity": {"catalogue_coverage@20": 0.26}}
    assert pick(text, MEMBERS, OBJECTIVES, 20, baselines=baselines) == key
    assert pick(text, dict(reversed(MEMBERS.items())), OBJECTIVES, 20, baselines=baselines) == key, "whatever the order"


def test_bands_are_a_sentence_each_and_each_sentence_is_a_pick():
    # costs 1e6, 1e7, 1e9: thirds of the logarithm end at 1e7 and 1e8, so the middle band has m2 as its first does
    found = choose(["bands:3"], MEMBERS, OBJECTIVES, 20)
    assert found == {
        "accuracy where cost<=1e+07": "m2", "accuracy where cost>=1e+07, cost<=1e+08": "m2",
        "accuracy where cost>=1e+08": "m1",
    }  # fmt: skip
    assert choose(list(found), MEMBERS, OBJECTIVES, 20) == found
    assert choose(["bands:2e6/5e6/2e9 recall, accuracy<=.79"], MEMBERS, OBJECTIVES, 20) == {
        "recall, accuracy<=.79, cost<=2e6": "m3", "recall, accuracy<=.79, cost>=5e6, cost<=2e9": "m2",
    }, "the band from 2e6 to 5e6 has no member"  # fmt: skip
    with pytest.raises(ConfigError, match="pick 'bands:3' is 3 picks; a single pick is needed"):
        pick("bands:3", MEMBERS, OBJECTIVES, 20)


@pytest.mark.parametrize("n_objectives", [2, 3, 4])
def test_weights_of_all_objectives_pick_as_pymoo_does(n_objectives):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports an old name of SciPy
        from pymoo.mcdm.pseudo_weights import PseudoWeights

    rng = np.random.default_rng(3)
    axes = [Objective(f"f{i}", f"f{i}", "min", "", 0.0, 1.0) for i in range(n_objectives)]
    for _ in range(20):
        F = rng.random((40, n_objectives))
        F /= np.linalg.norm(F, axis=1, keepdims=True)  # on a sphere no point dominates another
        weights = rng.dirichlet(np.ones(n_objectives)) + 1e-9
        weights /= weights.sum()
        members = {
            f"{i:03}": {axis.metric: value for axis, value in zip(axes, row, strict=True)} for i, row in enumerate(F)
        }
        text = "weights " + " ".join(f"f{i}={weight!r}" for i, weight in enumerate((7 * weights).tolist()))
        assert int(pick(text, members, axes, 0)) == PseudoWeights(weights).do(F)


def test_a_pick_is_not_dominated_in_the_metrics_that_it_names():
    rng = np.random.default_rng(4)
    axes = [Objective(name, name, "max", "", 1.0, 0.0) for name in "abcd"]
    members = {f"{i:03}": {name: float(value) for name, value in zip("abcd", row, strict=True)}
               for i, row in enumerate(rng.random((60, 4)))}  # fmt: skip
    for text, named in (
        ("knee", "abcd"),
        ("ideal", "abcd"),
        ("weights a=1 c=3", "ac"),
        ("weights b=1", "b"),
        ("d", "d"),
    ):
        own = members[pick(text, members, axes, 0)]
        assert not any(all(row[name] > own[name] for name in named) for row in members.values()), text


def test_limits_narrow_the_members_that_a_pick_is_scaled_to():
    (choice,) = choices(["knee where recall >= .15"], MEMBERS, OBJECTIVES, 20)
    assert choice.candidates == ("m2", "m3")
    assert scaled([MEMBERS[key] for key in choice.candidates], OBJECTIVES).tolist() == [[0, 1, 1], [1, 0, 0]]


def test_a_problem_with_one_objective_has_a_best_member_and_no_exchange():
    members = {"a": {"accuracy": 0.5}, "b": {"accuracy": 0.6}}
    for text in ("knee", "ideal", "accuracy", "weights accuracy=1"):
        assert pick(text, members, OBJECTIVES[:1], 20) == "b"
    assert exchanges("b", members, OBJECTIVES[:1]) == ()


def test_a_metric_of_the_problem_s_own_can_be_limited_and_is_guessed():
    members = {"a": {"readers": 1.0, "price": 2.0, "spam": 3.0}, "b": {"readers": 2.0, "price": 4.0, "spam": 9.0}}
    axes = [Objective("readers", "readers", "max", "", 9.0, 0.0), Objective("price", "price", "min", "EUR", 0.0, 9.0)]
    assert pick("readers where price <= 3", members, axes, 0) == "a"
    assert pick("readers where spam <= 8", members, axes, 0) == "a"
    assert pick("cheapest", members, axes, 0) == "a"
    for text, message in (
        ("raeders", "'raeders' is not a metric; did you mean 'readers'"),
        ("price where spma <= 3", "'spma' is not a metric; did you mean 'spam'"),
        ("spam", "spam is measured, but the problem does not say whether high or low values are better"),
        ("cheapest where readers >= 3", r"readers >= 3 is reached by no member; the highest readers is 2 \(member b\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            pick(text, members, axes, 0)
    with pytest.raises(ConfigError, match="no objective is a cost; name the metric"):
        pick("cheapest", members, axes[:1], 0)


def test_of_equal_members_the_smallest_key_is_picked():
    members = {key: {"accuracy": 0.5} for key in ("b", "a", "c")}
    assert pick("accuracy", members, OBJECTIVES[:1], 20) == "a"
    assert pick("knee", members, OBJECTIVES[:1], 20) == "a"


def test_a_problem_s_own_objective_is_picked_in_its_own_direction():
    members = {"a": {"own": 1.0}, "b": {"own": 2.0}}
    assert pick("mine", members, [Objective("mine", "own", "min", "", 0.0, 9.0)], 20) == "a"
    assert pick("own", members, [Objective("mine", "own", "max", "", 9.0, 0.0)], 20) == "b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "accuracy where recall@k >= 0.5",
            r"recall@k >= 0\.5 is reached by no member; the highest recall@20 is 0\.2 \(member m3\)",
        ),
        ("acuracy", "'acuracy' is not a metric; did you mean 'accuracy'"),
        ("accuracy where", "pick must read METRIC or best:METRIC, cheapest, .* got 'accuracy where'"),
        ("best accuracy", "pick must read METRIC"),
        ("accuracy where recall@k", "must read METRIC >= NUMBER"),
        ("novelty@k", "novelty@20 was not measured for m1; known: accuracy, auc/click"),
        ("accuracy where latency_ms <= 5", "latency_ms was not measured for m1"),
        ("recall@10", "recall@10 is not measured"),
        ("best:", "pick must read METRIC"),
        ("accuracy,", "pick must read METRIC"),
        ("accuracy,recall", "must read METRIC >= NUMBER"),
        ("accuracy where recall >= nan", "a limit must be a finite number, got 'recall >= nan'"),
        ("accuracy where recall <= inf", "a limit must be a finite number"),
        ("accuracy where recall >= 1e999", "must be >= or <= a finite number"),
        ("accuracy where recall >= ease", "names the baseline 'ease'"),
        ("weights", "'weights' is not a metric"),
        ("weights accuracy", "weights must read METRIC=NUMBER with a number above 0, got 'accuracy'"),
        ("weights accuracy=1 cost=0", "number above 0, got 'cost=0'"),
        ("weights accuracy=nan", "number above 0, got 'accuracy=nan'"),
        ("weights cost=1 training_flops=2", "gives training_flops two weights"),
        ("weights acuracy=1", "'acuracy' is not a metric; did you mean 'accuracy'"),
        ("bands:1", "bands must be a number in 2\\.\\.20 or rising limits of cost"),
        ("bands:x", "got 'x'"),
        ("bands:1e9/1e8", "rising limits"),
        (
            "accuracy where recall >= .15, accuracy >= .79, cost <= 1e10",
            r"no member of 3 keeps all limits, though each can be kept by itself; with accuracy >= \.79 and cost <= "
            r"1e10 the highest recall@20 is 0\.1 \(member m1\); with recall >= \.15 and cost <= 1e10 the highest "
            r"accuracy is 0\.78 \(member m2\)",
        ),
        (
            "best:recall,recall>=0.5",
            r"recall>=0\.5 is reached by no member; the highest recall@20 is 0\.2 \(member m3\)",
        ),
    ],
)
def test_a_pick_that_cannot_be_answered_says_why(text, message):
    with pytest.raises(ConfigError, match=message):
        pick(text, MEMBERS, OBJECTIVES, 20)


def test_a_pick_of_a_metric_that_the_task_does_not_have_is_refused_before_anything_is_searched():
    tasks = {"click": "binary", "watch": "regression"}
    check_pick("rmse/watch where auc/click >= 0.6 and mae/watch <= 3", (), 20, tasks=tasks)
    for text in ("auc/watch", "accuracy where rmse/click <= 1", "auc/share"):
        with pytest.raises(ConfigError, match=r"finalize\.picks: .*(is not measured|is not a ranked task)"):
            check_pick(text, (), 20, tasks=tasks)


def test_an_empty_archive_has_nothing_to_pick():
    with pytest.raises(ConfigError, match="pick 'accuracy' needs a member to choose from, got an empty archive"):
        pick("accuracy", {}, OBJECTIVES, 20)


KEYED = {"0a1": MEMBERS["m1"], "0a2": MEMBERS["m2"], "1b": MEMBERS["m3"]}


def test_members_are_chosen_by_sentence_by_key_or_all():
    assert choose(["knee", "1", " 0a1"], KEYED, OBJECTIVES, 20) == {"knee": "0a2", "1b": "1b", "0a1": "0a1"}
    assert choose(["all"], KEYED, OBJECTIVES, 20) == {key: key for key in KEYED}
    assert choose(["best:recall", "all"], KEYED, OBJECTIVES, 20) == {"best:recall": "1b", **{key: key for key in KEYED}}
    own = [Objective("1b", "accuracy", "max", "", 1.0, 0.5)]
    assert choose(["1b"], KEYED, own, 20) == {"1b": "0a1"}, "the name of an objective is no key"


def test_a_key_that_says_too_little_is_refused():
    with pytest.raises(ConfigError, match=r"pick '0a' begins 2 members: 0a1, 0a2; write more of it"):
        choose(["0a"], KEYED, OBJECTIVES, 20)
    with pytest.raises(ConfigError, match="pick 'all' needs a member to choose from, got an empty archive"):
        choose(["all"], {}, OBJECTIVES, 20)


def test_all_is_a_pick_before_a_search_and_a_key_only_after_it():
    for text in ("all", "best:recall", "knee,cost<=1e9", "ideal", "cheapest", "weights recall=1 cost=2", "bands:3"):
        check_pick(text, (), 20)
    check_pick("cheapest where recall >= 2 * ease", (), 20, baselines=["ease"])
    with pytest.raises(ConfigError, match=r"finalize\.picks: .*names the baseline 'esae'; did you mean 'ease'"):
        check_pick("cheapest where recall >= esae", (), 20, baselines=["ease"])
    with pytest.raises(ConfigError, match=r"finalize\.picks: '0a1' is not a metric"):
        check_pick("0a1", (), 20)
    check_pick("0a1", (), 20, keys=KEYED)
    check_pick("1", (), 20, keys=KEYED)
    with pytest.raises(ConfigError, match=r"finalize\.picks: pick '0a' begins 2 members"):
        check_pick("0a", (), 20, keys=KEYED)
    with pytest.raises(ConfigError, match=r"finalize\.picks: no member begins with 'ff'; there are 0a1, 0a2, 1b"):
        check_pick("ff", (), 20, keys=KEYED)


TABLE = Path(os.environ.get("EVOREC_DATA", "")) / "public-splits/amazon-music/published_front_ease.tsv"
ROUNDING = 5e-5  # half of the last digit of the figures by hand


@pytest.mark.skipif(not TABLE.is_file(), reason="needs the published table amazon-music under $EVOREC_DATA")
def test_picks_of_48_published_models_are_those_named_by_hand():
    """EASE by its l2: accuracy (nDCG, Recall) against the share of the long tail (APLT), read from the table."""
    names, *lines = [line.split("\t") for line in TABLE.read_text().splitlines()]
    members = {line[0]: dict(zip(names[1:], map(float, line[1:]), strict=True)) for line in lines}
    assert len(members) == 48
    axes = [Objective("nDCG", "nDCG", "max", "", 1.0, 0.0), Objective("APLT", "APLT", "max", "", 1.0, 0.0)]
    recall = replace(axes[0], name="Recall", metric="Recall")
    for text, l2 in (
        ("nDCG", "50.0"),  # .07558
        ("Recall", "120.0"),  # .09566
        ("APLT", "0.2"),  # .19819
        ("APLT where nDCG >= .07", "10.0"),  # .07134; l2 = 1 has .05706
        ("nDCG where APLT >= .1", "20.0"),  # .10555; l2 = 30 has .09337
        ("Recall where APLT >= .08", "50.0"),  # .09481 with .08223; l2 = 60 has .09506 with .07958
        # the front is l2 = .2 to 50, nDCG .04875...07558, APLT .19819...08223; losses at l2 = 10: .158 + .577 = .735,
        # at 1: .690 + .073 = .763, at 20: .059 + .799 = .858
        ("knee", "10.0"),
        ("ideal", "10.0"),  # .598; at l2 = 1 .694, at .9 .718, at 20 .801
        ("weights nDCG=1 APLT=1", "10.0"),  # .842 : .423 = .665 : .335, and .25 : .75 at l2 = 1
        ("weights nDCG=1 APLT=3", "1.0"),
        ("weights nDCG=3 APLT=1", "20.0"),  # .824 : .176
    ):
        front = members if text.split()[0] in names else _front(members, axes)
        assert pick(text, front, axes, 0, more=[recall]) == l2, text
    front = _front(members, axes)
    assert set(front) == {"10.0", "20.0", "30.0", "40.0", "50.0", "1.0", *(f"0.{i}" for i in range(2, 10))}
    accurate, long_tail = exchanges("10.0", front, axes)
    assert (accurate.member, long_tail.member) == ("20.0", "1.0")
    assert accurate.text.startswith("0.0027 more nDCG costs 0.026 APLT")  # .07400 - .07134, .13132 - .10555
    assert long_tail.text.startswith("one more point of APLT costs 0.0024 nDCG")  # .01429 for 5.84 points
    assert {gap.objective: gap.members for gap in gaps(front, axes)} == {
        "nDCG": ("1.0", "10.0"), "APLT": ("10.0", "1.0"),
    }  # fmt: skip
    assert gaps(front, axes)[0].share == pytest.approx(0.5325, abs=ROUNDING)  # .0142895 of .0268371


def _front(members, axes):
    F = np.stack([axis.minimised([row[axis.metric] for row in members.values()]) for axis in axes], axis=1)
    return {key: row for (key, row), stays in zip(members.items(), non_dominated(F), strict=True) if stays}
