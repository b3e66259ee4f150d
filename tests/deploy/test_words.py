"""A genome and its neighbours in words: hand-worked distances and sentences."""

import subprocess
import sys
from typing import Any

import pytest
from tiny import BALANCINGS, RETRIEVAL_LOSSES

from evorec.archive.decide import pick
from evorec.deploy.explaining.words import (
    Difference,
    Neighbour,
    Trade,
    differences,
    genome_in_words,
    neighbour_in_words,
    neighbours,
)
from evorec.errors import ConfigError
from evorec.models.choice import MECHANISMS
from evorec.objectives import Objective

TASKS = ("click", "like", "purchase")
STARTUP_S = 60.0  # a Python process, on a busy machine
ROUNDING = 1e-12  # of a root of a sum of squares

PLAIN: dict[str, Any] = {
    "task_weights": [1.5, 1.2, 0.3],
    "mechanism": "shared_bottom",
    "sharing_depth": 2,
    "task_embeddings": False,
    "balancing": "fixed",
    "embedding_dim": 16,
    "width": 32,
    "dropout": 0.1,
    "optimizer": "adamw",
    "learning_rate": 0.003,
    "embedding_learning_rate": 0.001,
    "embedding_decay": 0.01,
    "dense_decay": 0.5,
    "retrieval_weight": 2.0,
    "retrieval_loss": "softmax",
    "negatives": 256,
    "negative_source": "batch",
    "temperature": 0.2,
    "history": True,
    "history_weight": 3.0,
    "popularity_weight": 1.25,
    "popularity_smoothing": 3.0,
    "popularity_half_life": 11.3,
    "rerank": True,
    "rank_blend": 0.2,
    "use_segment": True,
    "use_price": False,
    "use_content": True,
    "rank_content": 4,
}
OF_MECHANISM: dict[str, Any] = {
    "sharing_depth": 2,
    "expert_depth": 2,
    "experts": 4,
    "shared_experts": 3,
    "task_experts": 1,
    "task_embeddings": False,
    "calibrator_weight": 0.6,
}


def genes(**changes: Any) -> dict[str, Any]:
    """`PLAIN` with changes, and the genes that the mechanism and the loss need."""
    out = {**PLAIN, **changes}
    own = MECHANISMS[out["mechanism"]].gene_names
    out = {name: value for name, value in out.items() if name not in OF_MECHANISM or name in own}
    out = {**{name: OF_MECHANISM[name] for name in own}, **out}
    return out | ({"gbce_calibration": 0.75} if out["retrieval_loss"] == "gbce" else {})


def told(**changes: Any) -> list[str]:
    return genome_in_words(genes(**changes), TASKS, target="click")


def test_a_genome_reads_like_this() -> None:
    assert told() == [
        "All tasks share the embeddings and the first 2 layers; above, each has its own small network, a tower "
        "(shared bottom).",
        "In the loss of the ranker click counts 50 %, like counts 40 % and purchase counts 10 %; these shares do not "
        "change during training.",
        "An embedding has 16 numbers, a layer 32 units.",
        "Against overfitting there is dropout of 10 % after the embeddings and each layer, and weight decay of 0.01 on "
        "the embeddings and 0.5 on the layers. Training is by AdamW with step sizes of 0.001 and 0.003.",
        "Candidates are the items whose vectors are most like the user's. Each click of the training is compared with "
        "up to 256 negatives, other positives of the batch: the liked item must stand out from all of them at once "
        "(softmax). The loss of this weighs 2, all tasks of the ranker together 3; likeness is divided by a "
        "temperature of 0.2. The user's past enters the user's vector with weight 3.",
        "In the lists the logarithm of an item's popularity counts 1.25 times beside the likeness; a click that is "
        "11.3 days old counts half in it, and 3 are added to every item. The ranker re-orders the candidates: the "
        "weighted sum of its tasks is added 0.2 times.",
        "It does without price. Content that passes through a few numbers only: content (4).",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sharing_depth": 1}, "share the embeddings and the first layer;"),
        ({"sharing_depth": 0}, "All tasks share the embeddings and no layer"),
        ({"sharing_depth": 0, "task_embeddings": True}, "share no layer: each has its own embedding table"),
        ({"mechanism": "single_task"}, "The tasks share nothing"),
        ({"mechanism": "cross_stitch"}, "after each of the first 2 layers takes in a learned blend"),
        ({"mechanism": "cross_stitch", "sharing_depth": 0}, "no layer is shared"),
        ({"mechanism": "cross_stitch", "task_embeddings": True}, "reads an embedding table of its own"),
        ({"mechanism": "mmoe"}, "share 4 small networks (experts) of 2 layers; for every row each task decides"),
        ({"mechanism": "mmoe", "task_embeddings": True}, "a task decides by a table of its own"),
        ({"mechanism": "cgc"}, "There are 3 small networks (experts) for all tasks and 1 for each task alone"),
        ({"mechanism": "cgc", "shared_experts": 1}, "There is one small network (expert) for all tasks"),
        ({"mechanism": "ple"}, "On each of 2 levels there are 3 small networks (experts) for all tasks and 1 for"),
        ({"mechanism": "ple"}, "and the next level starts from what was taken"),
        ({"mechanism": "ple", "expert_depth": 1}, "There are 3 small networks (experts) for all tasks and 1 for"),
        ({"mechanism": "stem"}, "another task's experts do not learn from it"),
        ({"mechanism": "esmm"}, "the step before it times the chance to go on"),
        ({"mechanism": "aitm"}, "is handed what the step before it has found"),
        ({"mechanism": "aitm"}, "A penalty of weight 0.6"),
        ({"task_weights": [1.0, 1.0, 1.0]}, "click, like and purchase count alike, 33 % each"),
        ({"dropout": 0.0}, "there is no dropout, and"),
        ({"optimizer": "adafactor"}, "Training is by Adafactor"),
        ({"retrieval_loss": "gbce"}, "corrected 75 % of the way"),
        ({"negative_source": "uniform"}, "256 negatives, items drawn uniformly"),
        ({"history": False}, "The user's past does not enter"),
        ({"popularity_weight": 0.0}, "the popularity of an item does not count"),
        (
            {"new_item_popularity": 0.5},
            "as popular as one that 50 % of the others do not surpass",
        ),
        ({"rerank": False}, "The ranker does not re-order the lists"),
        ({"use_price": True}, "All features are in use."),
        ({"use_segment": False}, "It does without price and segment."),
        ({"pretrained": True}, "start from who met them together"),
    ],
)
def test_each_setting_has_its_words(changes: dict[str, Any], words: str) -> None:
    assert words in " ".join(told(**changes))
    assert words not in " ".join(told()) or changes == {}


def test_every_choice_is_explained() -> None:
    for name, known in (("balancing", BALANCINGS), ("retrieval_loss", RETRIEVAL_LOSSES)):
        assert len({" ".join(told(**{name: value})) for value in known}) == len(known)
    texts = [told(mechanism=mechanism)[0] for mechanism in MECHANISMS]
    assert len(set(texts)) == len(MECHANISMS)


def test_a_single_task_has_no_shares() -> None:
    (weights,) = [
        text for text in genome_in_words(genes(task_weights=[1.0]), ("click",), target="click") if "only task" in text
    ]
    assert weights == "click is the only task of the ranker."


def test_genes_that_make_no_member_are_refused() -> None:
    with pytest.raises(ConfigError, match="mechanism must be one of"):
        genome_in_words({**PLAIN, "mechanism": "magic"}, TASKS, target="click")


ACCURACY = Objective("accuracy", "accuracy", "max", "", ideal=0.9, worst=0.5)
COST = Objective("cost", "training_flops", "min", "FLOP", ideal=1e8, worst=1e12, log10=True)
ERROR = Objective("mae/watch", "mae/watch", "min", "s", ideal=0.0, worst=10.0)


def metrics(accuracy: float, flops: float) -> dict[str, float]:
    return {"accuracy": accuracy, "training_flops": flops}


FRONT = {
    "own": metrics(0.70, 1e10),  # places 0.5 and 0.5
    "b-near": metrics(0.74, 1e10),  # 0.4 and 0.5: distance 0.1
    "a-near": metrics(0.66, 1e10),  # 0.6 and 0.5: as near
    "far": metrics(0.58, 1e8),  # 0.8 and 0.0: 0.3 and 0.5 away, sqrt 0.34
    "cheap": metrics(0.70, 1e9),  # 0.5 and 0.25
}


def test_the_nearest_come_first_and_of_equally_near_ones_the_smallest_key() -> None:
    found = neighbours("own", FRONT, (ACCURACY, COST), n=9)
    assert [one.key for one in found] == ["a-near", "b-near", "cheap", "far"]
    assert [one.distance for one in found] == pytest.approx([0.1, 0.1, 0.25, 0.34**0.5], abs=ROUNDING)
    assert [one.key for one in neighbours("own", FRONT, (ACCURACY, COST), n=2)] == ["a-near", "b-near"]
    assert len(neighbours("own", FRONT, (ACCURACY, COST))) == 3
    assert neighbours("own", {"own": FRONT["own"]}, (ACCURACY, COST)) == []


def test_a_trade_says_who_is_better() -> None:
    by_key = {one.key: one.trades for one in neighbours("own", FRONT, (ACCURACY, COST), n=9)}
    assert by_key["far"] == {"accuracy": Trade(0.70, 0.58, "own"), "cost": Trade(1e10, 1e8, "its")}
    assert by_key["b-near"] == {"accuracy": Trade(0.70, 0.74, "its"), "cost": Trade(1e10, 1e10, "neither")}


def test_the_nearest_of_a_picked_member_is_another_one() -> None:
    best = pick("accuracy", FRONT, (ACCURACY, COST), 20)
    assert [one.key for one in neighbours(best, FRONT, (ACCURACY, COST), n=1)] == ["own"]


def test_only_genes_that_count_are_differences() -> None:
    own = genes(task_embeddings=True)  # which no layer reads above a shared one
    assert differences(own, genes()) == []
    assert differences(own, genes(sharing_depth=0)) == [
        Difference("sharing_depth", 2, 0),
        Difference("task_embeddings", None, False),
    ]
    quiet = {"popularity_weight": 0.0}
    assert differences(genes(**quiet), genes(**quiet, popularity_half_life=1.0)) == []
    assert set(differences(genes(), genes(mechanism="mmoe"))) == {
        Difference("mechanism", "shared_bottom", "mmoe"),
        Difference("sharing_depth", 2, None),
        Difference("expert_depth", None, 2),
        Difference("experts", None, 4),
        Difference("task_embeddings", None, False),
    }


def neighbour(**trades: Trade) -> Neighbour:
    return Neighbour("0123456789abcdef", 0.1, {"mae/watch" if name == "mae" else name: t for name, t in trades.items()})


SAME = Trade(1.0, 1.0, "neither")


@pytest.mark.parametrize(
    ("accuracy", "cost", "mae", "words"),
    [
        (Trade(0.7, 0.688, "own"), Trade(2e9, 1e9, "its"), SAME, "gives up 0.012 accuracy for 50 % of the cost"),
        (Trade(0.7, 0.72, "its"), Trade(1e9, 3e9, "own"), SAME, "takes 3 times the cost for 0.02 more accuracy"),
        (Trade(0.7, 0.72, "its"), SAME, Trade(4.0, 4.5, "own"), "adds 0.5 mae/watch for 0.02 more accuracy"),
        (Trade(0.7, 0.6, "own"), SAME, Trade(4.0, 3.5, "its"), "gives up 0.1 accuracy for 0.5 less mae/watch"),
        (Trade(0.7, 0.6, "own"), SAME, SAME, "gives up 0.1 accuracy for nothing"),
        # a hair is a thousandth of the box: of the 4 decades of cost 0.9 %
        (Trade(0.7, 0.6, "own"), Trade(1e9, 0.995e9, "its"), SAME, "gives up 0.1 accuracy for 99.5 % of the cost"),
        (
            Trade(0.7, 0.6, "own"),
            Trade(1e9, 0.995e9, "its"),
            Trade(4.0, 3.5, "its"),
            "gives up 0.1 accuracy for 0.5 less mae/watch",
        ),
        (Trade(0.7, 0.8, "its"), SAME, SAME, "gives 0.1 more accuracy for nothing"),
        (SAME, SAME, SAME, "measures the same"),
        (
            Trade(0.7, 0.6, "own"),
            Trade(1e9, 2e9, "own"),
            Trade(4.0, 3.5, "its"),
            "gives up 0.1 accuracy and takes 2 times the cost for 0.5 less mae/watch",
        ),
    ],
)
def test_a_neighbour_is_told_as_a_trade(accuracy: Trade, cost: Trade, mae: Trade, words: str) -> None:
    near = neighbour(accuracy=accuracy, cost=cost, mae=mae)
    assert neighbour_in_words(near, (ACCURACY, COST, ERROR)) == f"01234567 {words}; its settings are the same."


def test_choices_are_told_before_numbers_and_near_numbers_not_at_all() -> None:
    found = [
        Difference("learning_rate", 0.00300, 0.00301),
        Difference("width", 16, 64),
        Difference("task_weights", [1.0, 1.0, 1.0], [1.5, 1.2, 0.3]),
        Difference("rerank", False, True),
        Difference("mechanism", "cgc", "mmoe"),
    ]
    near = neighbour(accuracy=SAME, cost=SAME, mae=SAME)
    assert neighbour_in_words(near, (ACCURACY, COST, ERROR), found) == (
        "01234567 measures the same; it differs in mechanism (mmoe instead of cgc), rerank (on instead of off), width "
        "(64 instead of 16) and task_weights (50 : 40 : 10 % instead of 33 : 33 : 33 %) and 1 more."
    )
    few = neighbour_in_words(near, (ACCURACY, COST, ERROR), found[:1])
    assert few.endswith("; its settings differ by less than a tenth.")


def test_words_need_no_torch() -> None:
    code = "import sys, evorec.deploy.explaining.words; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=STARTUP_S, check=True)
    assert done.stdout.strip() == "False"
