"""A ranking score as a formula of the retrieval score and the task heads, e.g. ``p_click**2.0*p_like``.

A formula is data: its text is parsed against a list of allowed operations and never executed. It is evaluated with the
operators of an array library (`NUMPY` here, torch in an exported graph). Every operation is protected in the same way
everywhere, so that finite inputs give a finite score:

- a variable, a product, a quotient and a power stay within ``±LIMIT``;
- ``log(x)`` and the base of ``x**y`` raise smaller values to `SMALLEST`, so both are monotone in x;
- ``x / y`` divides by at least `SMALLEST`, with the sign of y (0 counts as positive);
- ``exp(x)`` and the exponent of a power, ``y log x``, are clipped to ``±EXPONENT``.
"""

from __future__ import annotations

import ast
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final

import numpy as np

from evorec.errors import ConfigError

if TYPE_CHECKING:
    from evorec.models.spec import ModelSpec

A = TypeVar("A")
RETRIEVAL: Final = "retrieval"
"""Variable of the retrieval score of a candidate."""
SIZE: Final = "size"
"""Metric of a formula itself: its numbers, variables and operations."""
SMALLEST: Final = 1e-9
LIMIT: Final = 1e12
EXPONENT: Final = 27.0
"""``exp(27)`` is 5e11, below `LIMIT`; ``log(SMALLEST)`` is -20.7, so a probability to the power of 1 is itself."""
MOST_CHARACTERS: Final = 4000
MOST_NODES: Final = 300
"""Longer texts are refused before they are parsed: nested input could exhaust the stack."""


@final
@dataclass(frozen=True)
class Operators(Generic[A]):
    """Elementwise operations of an array library that a formula needs besides ``+ - * /`` and ``<``.

    Attributes:
        log, exp: of an array.
        minimum, maximum: of two arrays of equal shape.
        clip: of an array, between two numbers.
        where: a condition (an array compared with ``<``), the values where it holds, the values elsewhere.
    """

    log: Callable[[A], A]
    exp: Callable[[A], A]
    minimum: Callable[[A, A], A]
    maximum: Callable[[A, A], A]
    clip: Callable[[A, float, float], A]
    where: Callable[[Any, A, A], A]


NUMPY: Final[Operators[Any]] = Operators(np.log, np.exp, np.minimum, np.maximum, np.clip, np.where)
_NUMBERS: Final[Operators[float]] = Operators(
    math.log,
    math.exp,
    min,
    max,
    lambda x, low, high: min(max(x, low), high),
    lambda condition, yes, no: yes if condition else no,
)
"""For constant parts of a formula, which would otherwise be rounded differently by each library."""


@final
@dataclass(frozen=True)
class Node:
    """Node of the tree of a formula.

    Attributes:
        op: ``number``, ``name``, ``neg``, an operator of ``+ - * / **``, or a function's name.
        parts: operands.
        value: of a number.
        name: of a variable.
    """

    op: str
    parts: tuple[Node, ...] = ()
    value: float = 0.0
    name: str = ""

    def nodes(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for part in self.parts:
            yield from part.nodes()


def number(value: float) -> Node:
    """A constant; -0 becomes 0."""
    return Node("number", value=float(value) + 0.0)


def variable(name: str) -> Node:
    """A variable."""
    return Node("name", name=name)


def negative(part: Node) -> Node:
    """``-part``; of a number the negative number."""
    return number(-part.value) if part.op == "number" else Node("neg", (part,))


_FUNCTIONS: Final = {"log": 1, "exp": 1, "sigmoid": 1, "min": 2, "max": 2}
"""Functions and their number of operands."""
_BINARY: Final = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
_PRECEDENCE: Final = {"+": 1, "-": 1, "*": 2, "/": 2, "neg": 3, "**": 4}
_ATOM: Final = 5
ALLOWED: Final = "+ - * / **, " + ", ".join(_FUNCTIONS)


@final
@dataclass(frozen=True)
class Formula:
    """A ranking score as a formula; equal formulas have equal texts.

    Args:
        root: of the tree.
    Raises:
        ConfigError: it uses no variable, so all candidates would have the same score.
    Example:
        >>> formula = Formula.parse("p_click**2 * (retrieval + -0.5)", ["click"])
        >>> formula.text, formula.size, formula.names
        ('p_click**2.0*(retrieval + -0.5)', 7, ('p_click', 'retrieval'))
        >>> formula.evaluate({"p_click": np.array([0.5]), "retrieval": np.array([2.5])}, NUMPY)
        array([0.5])
    """

    root: Node

    def __post_init__(self) -> None:
        if not self.names:
            raise ConfigError(f"formula {self.text!r} must use a variable, got only constants.")

    @classmethod
    def parse(cls, text: str, tasks: Sequence[str]) -> Formula:
        """Parse a formula.

        Args:
            text: numbers, variables (`variable_names`) and the operations of `ALLOWED`.
            tasks: names of the ranked tasks.
        Raises:
            ConfigError: names the part that is not allowed.
        """
        if len(text) > MOST_CHARACTERS:
            raise ConfigError(f"formula must have at most {MOST_CHARACTERS} characters, got {len(text)}.")
        label = f"formula {_shortened(text)}"
        try:
            tree = ast.parse(text.strip(), mode="eval")
            n_nodes = sum(isinstance(node, ast.expr) for node in ast.walk(tree))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
            raise ConfigError(f"{label} cannot be read: {reason}; it may use {ALLOWED}.") from None
        if n_nodes > MOST_NODES:
            raise ConfigError(f"{label} must have at most {MOST_NODES} parts, got {n_nodes}.")
        return cls(_parsed(tree.body, label, variable_names(tasks)))

    @cached_property
    def text(self) -> str:
        """Canonical text, which parses back to the same formula."""
        return _text(self.root, repr)

    @cached_property
    def short(self) -> str:
        """Text for people, with constants to 3 significant digits."""
        return _text(self.root, lambda value: f"{value:.3g}")

    @cached_property
    def size(self) -> int:
        """Count of numbers, variables and operations."""
        return sum(1 for _ in self.root.nodes())

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Variables that the formula uses, in alphabetical order."""
        return tuple(sorted({node.name for node in self.root.nodes() if node.op == "name"}))

    def evaluate(self, values: Mapping[str, A], ops: Operators[A]) -> A:
        """The score of every candidate.

        Args:
            values: finite arrays of equal shape by variable, float32 or float64.
            ops: of the arrays' library.
        Returns:
            Finite scores of that shape.
        Raises:
            ConfigError: a variable has no values.
        """
        if missing := [name for name in self.names if name not in values]:
            raise ConfigError(
                f"formula {self.short!r} uses {', '.join(missing)}, known variables are {', '.join(values)}; a "
                "regression task has z_<task> and no p_<task>."
            )
        found: A = _evaluated(self.root, values, ops)
        return found


def variable_names(tasks: Sequence[str]) -> dict[str, str]:
    """Variables of a formula with the task of each; `RETRIEVAL` has an empty task.

    Args:
        tasks: names of the ranked tasks; characters that an identifier cannot have become ``_``.
    Raises:
        ConfigError: two tasks would have the same variables.
    Example:
        >>> variable_names(["long view"])
        {'retrieval': '', 'p_long_view': 'long view', 'z_long_view': 'long view'}
    """
    stems: dict[str, str] = {}
    for task in tasks:
        stem = identifier(task)
        if stem in stems:
            raise ConfigError(
                f"tasks {stems[stem]!r} and {task!r} would both be called {stem} in a formula; rename either of them."
            )
        stems[stem] = task
    return {RETRIEVAL: "", **{kind + stem: task for stem, task in stems.items() for kind in ("p_", "z_")}}


def identifier(task: str) -> str:
    """A task's name as part of a variable's name, in the form that Python gives identifiers (NFKC)."""
    normal = unicodedata.normalize("NFKC", task)
    return "".join(letter if f"_{letter}".isidentifier() else "_" for letter in normal)


def member_formula(spec: ModelSpec, tasks: Sequence[str], signs: Sequence[int]) -> Formula:
    """A member's own list score, ``retrieval + rank_blend * sum_t sign_t w_t z_t``.

    Args:
        spec: of the member.
        tasks: names of the ranked tasks.
        signs: 1 or -1 for each; empty = all 1.
    Returns:
        Only `RETRIEVAL` when the member does not re-rank. Constants are the products that the ranker computes in
        float32.
    """
    total: Node | None = None
    for task, weight, sign in zip(tasks, spec.task_weights, signs or (1,) * len(tasks), strict=True):
        weight_32 = float(np.float32(spec.rank_blend) * np.float32(weight))
        if weight_32 == 0:
            continue
        output = variable(f"z_{identifier(task)}")
        if total is None:
            total = Node("*", (number(sign * weight_32), output))
        else:
            total = Node("+" if sign > 0 else "-", (total, Node("*", (number(weight_32), output))))
    first = variable(RETRIEVAL)
    return Formula(first if total is None else Node("+", (first, total)))


def _parsed(node: ast.expr, label: str, known: Mapping[str, str]) -> Node:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if not abs(value) <= LIMIT:
                raise ConfigError(f"{label}: constants must be within ±{LIMIT:g}, got {value}.")
            return number(float(value))
        case ast.Name(id=name):
            if name not in known:
                raise ConfigError(f"{label}: {name!r} is not a variable; known: {', '.join(known)}.")
            return variable(name)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return Node(_BINARY[type(op)], (_parsed(left, label, known), _parsed(right, label, known)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return negative(_parsed(operand, label, known))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in _FUNCTIONS:
            if keywords or len(args) != _FUNCTIONS[name]:
                raise ConfigError(f"{label}: {name} takes {_FUNCTIONS[name]} values, got {ast.unparse(node)}.")
            return Node(name, tuple(_parsed(part, label, known) for part in args))
    hint = "; a power is written **" if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor) else ""
    raise ConfigError(f"{label}: {_shortened(ast.unparse(node))} is not allowed{hint}; it may use {ALLOWED}.")


def _shortened(text: str) -> str:
    flat = re.sub(r"\s+", " ", text)
    return repr(flat if len(flat) <= 100 else flat[:97] + "...")


def _text(node: Node, shown: Callable[[float], str]) -> str:
    def part(node: Node, at_least: int) -> str:
        """An operand, in parentheses where it binds more weakly than `at_least`."""
        own = _PRECEDENCE["neg"] if node.op == "number" and node.value < 0 else _PRECEDENCE.get(node.op, _ATOM)
        inner = _text(node, shown)
        return inner if own >= at_least else f"({inner})"

    if node.op == "number":
        return shown(node.value)
    if node.op == "name":
        return node.name
    if node.op in _FUNCTIONS:
        return f"{node.op}({', '.join(_text(operand, shown) for operand in node.parts)})"
    own = _PRECEDENCE[node.op]
    if node.op == "neg":
        return "-" + part(node.parts[0], own)
    left, right = node.parts
    if node.op == "**":
        return f"{part(left, _ATOM)}**{part(right, _PRECEDENCE['neg'])}"
    space = " " if own == 1 else ""
    return f"{part(left, own)}{space}{node.op}{space}{part(right, own + 1)}"


def _evaluated(node: Node, values: Mapping[str, Any], ops: Operators[Any]) -> Any:
    """A Python number for a part without a variable, else an array."""

    def library(value: Any) -> Operators[Any]:
        return _NUMBERS if isinstance(value, float) else ops

    def log(x: Any) -> Any:
        return library(x).log(library(x).clip(x, SMALLEST, math.inf))

    def exp(x: Any) -> Any:
        return library(x).exp(library(x).clip(x, -EXPONENT, EXPONENT))

    if node.op == "number":
        return node.value
    if node.op == "name":
        return ops.clip(values[node.name], -LIMIT, LIMIT)
    match node.op, [_evaluated(part, values, ops) for part in node.parts]:
        case "neg", [x]:
            return -x
        case "log", [x]:
            return log(x)
        case "exp", [x]:
            return exp(x)
        case "sigmoid", [x]:
            return 1.0 / (exp(-x) + 1.0)
        case "+", [x, y]:
            return x + y
        case "-", [x, y]:
            return x - y
        case "**", [x, y]:
            return exp(y * log(x))
        case ("min" | "max") as op, [x, y]:
            if isinstance(x, float):
                x, y = y, x
            if isinstance(y, float):  # clip, because libraries differ in comparing arrays with numbers
                return library(x).clip(x, *((-math.inf, y) if op == "min" else (y, math.inf)))
            return ops.minimum(x, y) if op == "min" else ops.maximum(x, y)
        case op, [x, y]:
            if op == "/":
                own = library(y)
                y = own.where(y < 0, own.clip(y, -math.inf, -SMALLEST), own.clip(y, SMALLEST, math.inf))
            found = x * y if op == "*" else x / y
            return library(found).clip(found, -LIMIT, LIMIT)
    raise AssertionError(f"unknown operation {node.op!r}")
