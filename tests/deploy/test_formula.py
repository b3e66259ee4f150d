"""Formulas: text, safety, and the same finite values whichever library computes them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tiny import spec

from evorec.deploy.fusion.formula import (
    LIMIT,
    NUMPY,
    Formula,
    Node,
    Operators,
    member_formula,
    negative,
    number,
    variable,
    variable_names,
)
from evorec.errors import ConfigError

TASKS = ("click", "like")
TORCH: Operators[Any] = Operators(
    torch.log, torch.exp, torch.minimum, torch.maximum, lambda x, low, high: x.clamp(low, high), torch.where
)
LIBRARIES = 1e-6  # relative; log and exp of numpy and torch differ by a few units in the last place of float32
ROUNDING = 1e-12  # float64, a handful of operations


def of(text: str) -> Formula:
    return Formula.parse(text, TASKS)


def values(**given: float) -> Mapping[str, Any]:
    return {name: np.array([value]) for name, value in given.items()}


def score(text: str, **given: float) -> float:
    return float(of(text).evaluate(values(**given), NUMPY)[0])


def random_node(rng: random.Random, depth: int) -> Node:
    if depth == 0 or rng.random() < 0.2:
        if rng.random() < 0.4:
            return number(rng.choice([0.0, 1.0, rng.uniform(-3, 3), 10 ** rng.uniform(-12, 11)]))
        return variable(rng.choice(sorted(variable_names(TASKS))))
    op = rng.choice(["+", "-", "*", "/", "**", "neg", "log", "exp", "sigmoid", "min", "max"])
    n_parts = 1 if op in ("neg", "log", "exp", "sigmoid") else 2
    parts = tuple(random_node(rng, depth - 1) for _ in range(n_parts))
    return negative(parts[0]) if op == "neg" else Node(op, parts)


def random_formulas(n: int, depth: int) -> list[Formula]:
    rng = random.Random(3)
    return [Formula(Node("+", (random_node(rng, depth), variable("z_click")))) for _ in range(n)]


@pytest.mark.parametrize(
    ("text", "canonical", "size"),
    [
        ("p_click ** 2 * p_like", "p_click**2.0*p_like", 5),
        ("retrieval+(0.5*z_click+z_like)", "retrieval + (0.5*z_click + z_like)", 7),
        ("(retrieval+z_click)+z_like", "retrieval + z_click + z_like", 5),
        ("retrieval-(z_click-z_like)", "retrieval - (z_click - z_like)", 5),
        ("z_click/(z_like/retrieval)", "z_click/(z_like/retrieval)", 5),
        ("-z_click**2", "-z_click**2.0", 4),
        ("(-z_click)**-0.5", "(-z_click)**-0.5", 4),
        ("(-2)**z_click", "(-2.0)**z_click", 3),
        ("z_click**z_like**2", "z_click**z_like**2.0", 5),
        ("(z_click**z_like)**2", "(z_click**z_like)**2.0", 5),
        ("min(z_click, -z_like) - -1e-9", "min(z_click, -z_like) - -1e-09", 6),
        ("sigmoid(log(exp(z_like)))", "sigmoid(log(exp(z_like)))", 4),
        ("-(-(z_like))", "--z_like", 3),
    ],
)
def test_equal_formulas_have_the_same_canonical_text(text: str, canonical: str, size: int) -> None:
    formula = of(text)
    assert formula.text == canonical
    assert formula.size == size
    assert of(formula.text) == formula


def test_the_text_of_any_formula_parses_back_to_it() -> None:
    for formula in random_formulas(400, 5):
        assert of(formula.text) == formula


def test_python_reads_the_text_as_evorec_does() -> None:
    names: dict[str, Any] = {"log": math.log, "exp": math.exp, "min": min, "max": max}
    names |= {"sigmoid": lambda x: 1 / (1 + math.exp(-x)), "retrieval": 1.7, "p_click": 0.3, "z_like": 1.2}
    for text in (
        "retrieval - 0.5*z_like - p_click/2.0",
        "p_click**2.0*z_like**-0.5/retrieval",
        "-p_click**0.5 + max(z_like, retrieval)*sigmoid(-z_like)",
        "log(p_click)*min(exp(z_like), 2.0) - (z_like - retrieval)",
    ):
        own = {name: value for name, value in names.items() if isinstance(value, float)}
        assert score(text, **own) == pytest.approx(eval(text, names), rel=ROUNDING)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os').system('true')", "is not allowed"),
        ("p_click.__class__", r"p_click\.__class__' is not allowed"),
        ("(lambda: 1)()", "is not allowed"),
        ("[p_click for p_click in (1,)]", "is not allowed"),
        ("p_click if z_like else 1", "is not allowed"),
        ("p_click > 0.5", "is not allowed"),
        ("p_click ^ 2", r"'p_click \^ 2' is not allowed; a power is written \*\*"),
        ("p_click + True", "'True' is not allowed"),
        ("p_click + 'a'", "is not allowed"),
        ("p_click + 1j", "is not allowed"),
        ("p_click // 2", "is not allowed"),
        ("+p_click", "is not allowed"),
        ("open(p_click)", r"'open\(p_click\)' is not allowed"),
        ("min(p_click)", "min takes 2 values"),
        ("min(*p_click, 1)", "is not allowed"),
        ("log(p_click, base=2)", "log takes 1 values"),
        ("p_buy * 2", "'p_buy' is not a variable; known: retrieval, p_click, z_click, p_like, z_like"),
        ("log", "'log' is not a variable"),
        ("1 + 2", "must use a variable"),
        ("p_click * 1e400", r"constants must be within ±1e\+12, got inf"),
        ("p_click * 2e12", "constants must be within"),
        ("p_click +", "cannot be read"),
        ("", "cannot be read"),
        ("p_click; z_like", "cannot be read"),
        ("p_click\0", "cannot be read"),
        ("(" * 1000 + "p_click" + ")" * 1000, "cannot be read"),
        ("-" * 1500 + "p_click", "formula"),
        ("p_click+" * 400 + "p_click", "at most 300 parts"),
        ("p_click+" * 4000 + "p_click", "at most 4000 characters"),
    ],
)
def test_an_invalid_formula_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        of(text)


def test_operations_are_protected_as_stated() -> None:
    e_9, e_27 = 1e-9, math.exp(27)
    assert score("log(z_click)", z_click=-3.0) == pytest.approx(math.log(e_9), rel=ROUNDING)
    assert score("z_click/z_like", z_click=2.0, z_like=0.0) == pytest.approx(2 / e_9, rel=ROUNDING)
    assert score("z_click/z_like", z_click=2.0, z_like=-1e-15) == pytest.approx(-2 / e_9, rel=ROUNDING)
    assert score("z_click/z_like", z_click=2.0, z_like=-4.0) == -0.5
    assert score("exp(z_click)", z_click=500.0) == pytest.approx(e_27, rel=ROUNDING)
    assert score("exp(z_click)", z_click=-500.0) == pytest.approx(1 / e_27, rel=ROUNDING)
    assert score("z_click**2", z_click=-3.0) == pytest.approx(e_9 ** (27 / -math.log(e_9)), rel=1e-9)  # cut at e^-27
    assert score("z_click**-3", z_click=0.5) == pytest.approx(8, rel=ROUNDING)
    assert score("z_click*z_like", z_click=1e11, z_like=-1e11) == -LIMIT
    assert score("sigmoid(z_click)", z_click=0.0) == 0.5


def test_no_finite_input_gives_nan_or_infinity() -> None:
    rng = np.random.default_rng(0)
    extremes = np.array([0.0, 1e-30, -1e-30, 3e38, -3e38, 1e-9, 1.0, -1.0, 80.0, -80.0])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for formula in random_formulas(300, 4):
            for column in (rng.permuted(np.tile(extremes, 5)), rng.normal(size=50)):
                wide = {name: rng.permutation(column).astype(np.float32) for name in variable_names(TASKS)}
                found = formula.evaluate(wide, NUMPY)
                assert np.isfinite(found).all(), formula.text
                assert found.dtype == np.float32


def test_numpy_and_torch_give_the_same_scores() -> None:
    rng = np.random.default_rng(4)
    normal = rng.normal(size=(5, 200)).astype(np.float32)
    given = dict(zip(variable_names(TASKS), normal, strict=True))
    given |= {name: 1 / (1 + np.exp(-value)) for name, value in given.items() if name.startswith("p_")}
    tensors = {name: torch.from_numpy(value) for name, value in given.items()}
    for text in (
        "p_click**1.7*p_like**0.3*exp(0.25*retrieval)",
        "retrieval + (0.121*z_click - 0.35*z_like)",
        "max(log(p_click), -2.0) + min(0.3, p_like) - max(z_click, z_like)",
        "z_click/(1.5 + sigmoid(z_like)) + log(2.0)*retrieval/2.0**0.5",
        "2.0/p_like + 3.0**z_click + -min(-1.0, 4.0)*retrieval",
    ):
        formula = of(text)
        numpy_scores, torch_scores = formula.evaluate(given, NUMPY), formula.evaluate(tensors, TORCH)
        assert torch_scores.dtype == torch.float32
        np.testing.assert_allclose(torch_scores.numpy(), numpy_scores, rtol=LIBRARIES, atol=LIBRARIES)


def test_a_variable_without_values_is_named() -> None:
    with pytest.raises(ConfigError, match=r"uses p_like, known variables are p_click; a regression task"):
        of("p_click*p_like").evaluate(values(p_click=0.5), NUMPY)


def test_names_of_tasks_become_identifiers() -> None:
    names = variable_names(["long view", "5 stars", "café"])
    assert list(names) == ["retrieval", "p_long_view", "z_long_view", "p_5_stars", "z_5_stars", "p_café", "z_café"]
    assert names["z_long_view"] == "long view"
    assert Formula.parse("p_café*p_5_stars", ["long view", "5 stars", "café"]).names == ("p_5_stars", "p_café")
    with pytest.raises(ConfigError, match="tasks 'long view' and 'long_view' would both be called long_view"):
        variable_names(["long view", "long_view"])


def test_a_members_own_score_is_retrieval_and_its_signed_heads() -> None:
    own = spec(task_weights=(2.0, 0.5, 0.5), rank_blend=0.25)
    formula = member_formula(own, ("click", "pain", "like"), (1, -1, 1))
    assert formula.text == "retrieval + (0.5*z_click - 0.125*z_pain + 0.125*z_like)"
    assert member_formula(spec(rank_blend=0.0), ("a", "b", "c"), ()).text == "retrieval"
    # 0.1 * 1.25 as the ranker makes it, in float32, written out exactly
    coefficient = float(np.float32(0.1) * np.float32(1.25))
    of_float32 = member_formula(spec(task_weights=(0.0, 1.25, 0.0), rank_blend=0.1), ("a", "b", "c"), ())
    assert of_float32.text == f"retrieval + {coefficient!r}*z_b"
    assert of_float32.short == "retrieval + 0.125*z_b"
    first_is_bad = member_formula(spec(task_weights=(1.0, 0.0, 0.0), rank_blend=0.5), ("a", "b", "c"), (-1, 1, 1))
    assert first_is_bad.text == "retrieval + -0.5*z_a"
