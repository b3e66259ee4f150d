"""Picking a member by a sentence."""

import pytest

from evorec.archive.decide import check_pick, choose, pick
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
    ],
)
def test_a_sentence_picks_the_member_it_means(text, key):
    assert pick(text, MEMBERS, OBJECTIVES, 20) == key
    assert pick(text, dict(reversed(MEMBERS.items())), OBJECTIVES, 20) == key, "whatever the order"


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
        ("accuracy where recall@k >= 0.5", r"none of 3 members qualifies; their recall@20 is 0\.1\.\.0\.2"),
        ("acuracy", "'acuracy' is not a metric; did you mean 'accuracy'"),
        ("accuracy where", "pick must read METRIC or METRIC where METRIC >= NUMBER, got 'accuracy where'"),
        ("best accuracy", "pick must read METRIC"),
        ("accuracy where recall@k", "must read METRIC >= NUMBER"),
        ("novelty@k", "novelty@20 was not measured for m1; known: accuracy, auc/click"),
        ("accuracy where latency_ms <= 5", "latency_ms was not measured for m1"),
        ("recall@10", "recall@10 is not measured"),
        ("best:", "pick must read METRIC|'best:' is not a metric"),
        ("accuracy,", "pick must read METRIC"),
        ("accuracy,recall", "must read METRIC >= NUMBER"),
        ("best:recall,recall>=0.5", r"none of 3 members qualifies; their recall@20 is 0\.1\.\.0\.2"),
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
    for text in ("all", "best:recall", "knee,cost<=1e9"):
        check_pick(text, (), 20)
    with pytest.raises(ConfigError, match=r"finalize\.picks: '0a1' is not a metric"):
        check_pick("0a1", (), 20)
    check_pick("0a1", (), 20, keys=KEYED)
    check_pick("1", (), 20, keys=KEYED)
    with pytest.raises(ConfigError, match=r"finalize\.picks: pick '0a' begins 2 members"):
        check_pick("0a", (), 20, keys=KEYED)
    with pytest.raises(ConfigError, match=r"finalize\.picks: no member begins with 'ff'; there are 0a1, 0a2, 1b"):
        check_pick("ff", (), 20, keys=KEYED)
