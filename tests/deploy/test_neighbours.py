"""A genome in sentences, and its nearest members on the front: distances, trades and sentences worked by hand."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from feed_run import config

from evorec.archive.decide import pick
from evorec.deploy.explanation.description import OPTIONS, describe, shown
from evorec.deploy.explanation.neighbours import Difference, Trade, differences, neighbour_text, neighbours
from evorec.errors import ConfigError
from evorec.models.choice import MECHANISMS
from evorec.objectives import Objective
from evorec.recommender.problem import RecProblem, build_problem

STARTUP_S = 600.0  # a Python process, on a busy machine
ROUNDING = 1e-12  # of a root of a sum of squares
ACCURACY = Objective("accuracy", "accuracy", "max", "", ideal=0.9, worst=0.5)
COST = Objective("cost", "training_flops", "min", "FLOP", ideal=1e8, worst=1e12, log10=True)
ERROR = Objective("mae/watch", "mae/watch", "min", "s", ideal=0.0, worst=10.0)
AXES = (ACCURACY, COST)


@pytest.fixture(scope="module")
def problem() -> RecProblem:
    return build_problem(config(tasks={"funnel": ["click", "purchase"]}))


@pytest.fixture(scope="module")
def whole() -> RecProblem:
    """With the optional genes and options."""
    optional = {"encoder": "search", "optimizer": list(OPTIONS["optimizer"])}
    return build_problem(config(space=optional))


def genes_of(problem: RecProblem, **changes: Any) -> dict[str, Any]:
    """The default genome with changes."""
    return problem.space.spec_of({**{gene.name: gene.default for gene in problem.space.genes}, **changes})


def test_a_description_has_every_gene_and_marks_changed_defaults(problem: RecProblem) -> None:
    changes = {"width": 64, "task_weights": (1.5, 1.2, 0.3), "use_price": False, "optimizer": "adafactor"}
    genes = genes_of(problem, **changes)
    lines = describe(genes, problem.space)
    assert "width 64 (default 32): units per layer." in lines
    assert "task_weights 50 : 40 : 10 % (default 33 : 33 : 33 %): loss weight of each task." in lines
    assert "use_price off (default on): the model sees item feature price." in lines
    assert any(line.startswith("optimizer adafactor: ") for line in lines)
    assert lines[-1].startswith("At their defaults: sharing_depth 1, task_embeddings off, ")
    named = [line.split()[0] for line in lines[1:-1]] + [part.split()[0] for part in lines[-1][19:].split(", ")]
    assert sorted(named) == sorted(set(genes) - {"mechanism"})
    assert len(describe(genes_of(problem), problem.space)) == 2 + len(OPTIONS.keys() & set(problem.space.names))


def test_every_option_has_a_text_of_its_own(problem: RecProblem, whole: RecProblem) -> None:
    texts = [describe(genes_of(problem, mechanism=mechanism), problem.space)[0] for mechanism in MECHANISMS]
    assert len(set(texts)) == len(MECHANISMS)
    for name, options in OPTIONS.items():
        lines = [describe(genes_of(whole, **{name: option}), whole.space) for option in options]
        assert len({next(line for line in found if line.startswith(f"{name} ")) for found in lines}) == len(options)


def test_genes_that_make_no_member_are_refused(problem: RecProblem) -> None:
    with pytest.raises(ConfigError, match="mechanism"):
        describe({**genes_of(problem), "mechanism": "magic"}, problem.space)


def test_values_are_shown_as_people_write_them() -> None:
    values = (None, True, False, [1.0, 1.0], 0.123456, 12345, "batch")
    assert [shown(value) for value in values] == ["none", "on", "off", "50 : 50 %", "0.123", "12,345", "batch"]


def metrics(accuracy: float, flops: float) -> dict[str, float]:
    return {"accuracy": accuracy, "training_flops": flops}


FRONT = {
    "own": metrics(0.70, 1e10),  # 0.5 and 0.5 in the box
    "b-near": metrics(0.74, 1e10),  # 0.4 and 0.5: distance 0.1
    "a-near": metrics(0.66, 1e10),  # 0.6 and 0.5: the same distance
    "far": metrics(0.58, 1e8),  # 0.8 and 0.0: 0.3 and 0.5 away, sqrt 0.34
    "cheap": metrics(0.70, 1e9),  # 0.5 and 0.25
}
MEMBERS: dict[str, Any] = {key: ({"width": len(key)}, found) for key, found in FRONT.items()}


def test_neighbours_are_sorted_by_distance_then_key() -> None:
    found = neighbours("own", MEMBERS, AXES, n=9)
    assert [near.key for near in found] == ["a-near", "b-near", "cheap", "far"]
    assert [near.distance for near in found] == pytest.approx([0.1, 0.1, 0.25, 0.34**0.5], abs=ROUNDING)
    assert [near.key for near in neighbours("own", MEMBERS, AXES, n=2)] == ["a-near", "b-near"]
    assert len(neighbours("own", MEMBERS, AXES)) == 3
    assert neighbours("own", {"own": MEMBERS["own"]}, AXES) == ()
    assert neighbours(pick("accuracy", FRONT, AXES, 20), MEMBERS, AXES, n=1)[0].key == "own"


def test_a_neighbour_has_trades_differences_and_both_in_a_sentence() -> None:
    by_key = {near.key: near for near in neighbours("own", MEMBERS, AXES, n=9)}
    assert by_key["far"].trades == {"accuracy": Trade(0.70, 0.58, "own"), "cost": Trade(1e10, 1e8, "its")}
    assert by_key["b-near"].trades == {"accuracy": Trade(0.70, 0.74, "its"), "cost": Trade(1e10, 1e10, "neither")}
    assert by_key["far"].differences == ()
    assert by_key["cheap"].differences == (Difference("width", 3, 5),)
    assert by_key["cheap"].text == "cheap: cost x 0.1 (better); width 5 (here 3)."
    assert by_key["far"].text == "far: accuracy -0.12 (worse), cost x 0.01 (better); equal settings."


def test_genes_without_effect_are_no_differences(problem: RecProblem) -> None:
    plain = genes_of(problem)
    own = genes_of(problem, task_embeddings=True)  # the tables are not read above a shared layer
    assert differences(own, plain) == []
    assert differences(own, genes_of(problem, sharing_depth=0)) == [
        Difference("sharing_depth", 1, 0),
        Difference("task_embeddings", None, False),
    ]
    quiet = {"popularity_weight": 0.0}
    assert differences(genes_of(problem, **quiet), genes_of(problem, **quiet, popularity_half_life=1.0)) == []
    assert {found.gene for found in differences(plain, genes_of(problem, mechanism="mmoe"))} == {
        "mechanism", "sharing_depth", "expert_depth", "experts", "task_embeddings",
    }  # fmt: skip


def test_options_are_named_before_numbers_and_nearly_equal_numbers_are_only_counted() -> None:
    found = [
        Difference("learning_rate", 0.00300, 0.00301),
        Difference("width", 16, 64),
        Difference("task_weights", [1.0, 1.0, 1.0], [1.5, 1.2, 0.3]),
        Difference("rerank", False, True),
        Difference("mechanism", "cgc", "mmoe"),
        Difference("experts", None, 4),
        Difference("dropout", 0.1, 0.0),
    ]
    trades = {"accuracy": Trade(1.0, 1.0, "neither"), "cost": Trade(1.0, 1.0, "neither")}
    trades["mae/watch"] = Trade(4.0, 3.5, "its")
    assert neighbour_text("0123456789abcdef", trades, found, (*AXES, ERROR)) == (
        "01234567: mae/watch -0.5 (better); mechanism mmoe (here cgc), rerank on (here off), width 64 (here 16), "
        "experts 4 (here none), dropout 0 (here 0.1), 2 more."
    )
    few = neighbour_text("0123456789abcdef", trades, found[:1], (*AXES, ERROR))
    assert few.endswith("; 1 small differences.")


def test_a_description_needs_no_torch() -> None:
    code = "import sys, evorec.deploy.explanation.neighbours; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=STARTUP_S, check=True)
    assert done.stdout.strip() == "False"
