"""A ranking score written as a formula of the first-stage score and the task heads, e.g. ``p_click**2.0*p_like``.

A formula is data: its text is parsed by a whitelist, never run. It is evaluated with the operators of a library that
the caller brings (`NUMPY` here, torch in an exported graph). Every operation is protected in the same way everywhere,
so that finite inputs give a finite score:

- a variable, a product, a quotient and a power stay within ``±LIMIT``;
- ``log(x)`` and the base of ``x**y`` take what is below `SMALLEST` as `SMALLEST`, so both never fall when x grows;
- ``x / y`` divides by at least `SMALLEST`, with the sign of y (0 counts as positive);
- ``exp(x)`` and the exponent that a power makes, ``y log x``, are cut to ``±EXPONENT``.
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
"""The first-stage score of a candidate."""
SMALLEST: Final = 1e-9
LIMIT: Final = 1e12
EXPONENT: Final = 27.0
"""``exp(27)`` is 5e11, below `LIMIT`; ``log(SMALLEST)`` is -20.7, so a probability to the power of 1 is itself."""
MOST_CHARACTERS: Final = 4000
MOST_NODES: Final = 300
"""Beyond these a text is no formula of anybody's."""


@final
@dataclass(frozen=True)
class Operators(Generic[A]):
    """What a formula needs of an array library besides ``+ - * /`` and ``<``, all elementwise.

    Attributes:
        log, exp: of an array.
        minimum, maximum: of two arrays of equal shape.
        clip: of an array, between two numbers.
        where: a condition (an array compared with ``<``), an array where it holds, an array where not.
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
"""Of constant parts, so that no library rounds them in its own way."""


@final
@dataclass(frozen=True)
class Node:
    """A part of a formula.

    Attributes:
        op: ``number``, ``name``, ``neg``, one of ``+ - * / **``, or a function's name.
        parts: operands.
        value: of a number.
        name: of a variable.
    """

    op: str
    parts: tuple[Node, ...] = ()
    value: float = 0.0
    name: str = ""

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for part in self.parts:
            yield from part.walk()


def number(value: float) -> Node:
    """A constant; there is no -0."""
    return Node("number", value=float(value) + 0.0)


def variable(name: str) -> Node:
    """A variable."""
    return Node("name", name=name)


def negative(part: Node) -> Node:
    """``-part``; of a number the negative number."""
    return number(-part.value) if part.op == "number" else Node("neg", (part,))


_FUNCTIONS: Final = {"log": 1, "exp": 1, "sigmoid": 1, "min": 2, "max": 2}
"""Functions and how many operands they have."""
_BINARY: Final = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
_STRENGTH: Final = {"+": 1, "-": 1, "*": 2, "/": 2, "neg": 3, "**": 4}
_ATOM: Final = 5
ALLOWED: Final = "+ - * / **, " + ", ".join(_FUNCTIONS)


@final
@dataclass(frozen=True)
class Formula:
    """A ranking score as a formula; equal formulas have equal texts.

    Args:
        root: of the tree.
    Raises:
        ConfigError: it uses no variable, so that it would rank nothing.
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
            raise ConfigError(f"formula {self.text!r} must use a variable, got constants alone.")

    @classmethod
    def parse(cls, text: str, tasks: Sequence[str]) -> Formula:
        """A formula from its text.

        Args:
            text: numbers, variables (see `variable_names`) and what `ALLOWED` names.
            tasks: names of the ranked tasks.
        Raises:
            ConfigError: names the part that is not allowed.
        """
        if len(text) > MOST_CHARACTERS:
            raise ConfigError(f"formula must have at most {MOST_CHARACTERS} characters, got {len(text)}.")
        try:
            tree = ast.parse(text.strip(), mode="eval")
            n_nodes = sum(isinstance(node, ast.expr) for node in ast.walk(tree))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
            raise ConfigError(f"formula {_shortened(text)} cannot be read: {reason}; it may use {ALLOWED}.") from None
        if n_nodes > MOST_NODES:
            raise ConfigError(f"formula {_shortened(text)} must have at most {MOST_NODES} parts, got {n_nodes}.")
        return cls(_parsed(tree.body, text, variable_names(tasks)))

    @cached_property
    def text(self) -> str:
        """Canonical text, which parses back to the same formula."""
        return _text(self.root, repr)

    @cached_property
    def short(self) -> str:
        """Text for a person, with constants to 3 significant digits."""
        return _text(self.root, lambda value: f"{value:.3g}")

    @cached_property
    def size(self) -> int:
        """Numbers, variables and operations."""
        return sum(1 for _ in self.root.walk())

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Variables it uses, in alphabetical order."""
        return tuple(sorted({node.name for node in self.root.walk() if node.op == "name"}))

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
                f"formula {self.short!r} uses {', '.join(missing)}, and there is only {', '.join(values)}; a task of "
                "numbers has z_<task> and no p_<task>."
            )
        found: A = _evaluated(self.root, values, ops)
        return found


def variable_names(tasks: Sequence[str]) -> dict[str, str]:
    """The variables of a formula and the task each is of; `RETRIEVAL` is of none.

    Args:
        tasks: names of the ranked tasks; what cannot stand in an identifier becomes ``_``.
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
                f"tasks {stems[stem]!r} and {task!r} would both be called {stem} in a formula; rename one of them."
            )
        stems[stem] = task
    return {RETRIEVAL: "", **{kind + stem: task for stem, task in stems.items() for kind in ("p_", "z_")}}


def identifier(task: str) -> str:
    """A task's name as it stands in the names of variables, in the form that Python gives identifiers (NFKC)."""
    normal = unicodedata.normalize("NFKC", task)
    return "".join(letter if f"_{letter}".isidentifier() else "_" for letter in normal)


def member_formula(spec: ModelSpec, tasks: Sequence[str], signs: Sequence[int]) -> Formula:
    """A member's own list score, ``retrieval + rank_blend * sum_t sign_t w_t z_t``.

    Args:
        spec: of the member.
        tasks: names of the ranked tasks.
        signs: 1 or -1 for each; empty = all 1.
    Returns:
        `RETRIEVAL` alone when the member does not re-rank. Constants are the products that the ranker makes in float32.
    """
    total: Node | None = None
    for task, weight, sign in zip(tasks, spec.task_weights, signs or (1,) * len(tasks), strict=True):
        weight_32 = float(np.float32(spec.rank_blend) * np.float32(weight))
        if weight_32 == 0:
            continue
        term = Node("*", (number(weight_32), variable(f"z_{identifier(task)}")))
        if total is None:
            total = term if sign > 0 else Node("*", (number(-weight_32), term.parts[1]))
        else:
            total = Node("+" if sign > 0 else "-", (total, term))
    first = variable(RETRIEVAL)
    return Formula(first if total is None else Node("+", (first, total)))


def _parsed(node: ast.expr, text: str, known: Mapping[str, str]) -> Node:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        if not abs(node.value) <= LIMIT:
            raise ConfigError(f"formula {_shortened(text)}: constants must be within ±{LIMIT:g}, got {node.value}.")
        return number(float(node.value))
    if isinstance(node, ast.Name):
        if node.id not in known:
            raise ConfigError(f"formula {_shortened(text)}: {node.id!r} is no variable; known: {', '.join(known)}.")
        return variable(node.id)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return Node(_BINARY[type(node.op)], (_parsed(node.left, text, known), _parsed(node.right, text, known)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return negative(_parsed(node.operand, text, known))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        wanted = _FUNCTIONS[node.func.id]
        if node.keywords or len(node.args) != wanted:
            raise ConfigError(f"formula {_shortened(text)}: {node.func.id} takes {wanted} values, {ast.unparse(node)}.")
        return Node(node.func.id, tuple(_parsed(one, text, known) for one in node.args))
    hint = "; a power is written **" if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor) else ""
    part = _shortened(ast.unparse(node))
    raise ConfigError(f"formula {_shortened(text)}: {part} is not allowed{hint}; it may use {ALLOWED}.")


def _shortened(text: str) -> str:
    flat = re.sub(r"\s+", " ", text)
    return repr(flat if len(flat) <= 100 else flat[:97] + "...")


def _strength(node: Node) -> int:
    """How strongly a text binds: a negative number is written with a minus before it."""
    if node.op == "number":
        return _STRENGTH["neg"] if node.value < 0 else _ATOM
    return _STRENGTH.get(node.op, _ATOM)


def _text(node: Node, shown: Callable[[float], str]) -> str:
    def part(one: Node, at_least: int) -> str:
        inner = _text(one, shown)
        return inner if _strength(one) >= at_least else f"({inner})"

    if node.op == "number":
        return shown(node.value)
    if node.op == "name":
        return node.name
    if node.op in _FUNCTIONS:
        return f"{node.op}({', '.join(_text(one, shown) for one in node.parts)})"
    own = _STRENGTH[node.op]
    if node.op == "neg":
        return "-" + part(node.parts[0], own)
    left, right = node.parts
    if node.op == "**":
        return f"{part(left, _ATOM)}**{part(right, _STRENGTH['neg'])}"
    space = " " if own == 1 else ""
    return f"{part(left, own)}{space}{node.op}{space}{part(right, own + 1)}"


def _evaluated(node: Node, values: Mapping[str, Any], ops: Operators[Any]) -> Any:
    """A number where nothing varies, else an array."""
    if node.op == "number":
        return node.value
    if node.op == "name":
        return ops.clip(values[node.name], -LIMIT, LIMIT)
    parts = [_evaluated(part, values, ops) for part in node.parts]
    if node.op in ("min", "max"):
        return _extreme(node.op, parts[0], parts[1], ops)
    if len(parts) == 1:
        return _of_one(node.op, parts[0], _library(parts[0], ops))
    left, right = parts
    if node.op == "+":
        return left + right
    if node.op == "-":
        return left - right
    if node.op == "**":
        exponent = right * _log(left, _library(left, ops))
        return _exp(exponent, _library(exponent, ops))
    found = left * right if node.op == "*" else left / _divisor(right, _library(right, ops))
    return _library(found, ops).clip(found, -LIMIT, LIMIT)


def _library(value: Any, ops: Operators[Any]) -> Operators[Any]:
    return _NUMBERS if isinstance(value, float) else ops


def _of_one(op: str, value: Any, ops: Operators[Any]) -> Any:
    if op == "neg":
        return -value
    if op == "log":
        return _log(value, ops)
    return _exp(value, ops) if op == "exp" else 1.0 / (_exp(-value, ops) + 1.0)


def _log(value: Any, ops: Operators[Any]) -> Any:
    return ops.log(ops.clip(value, SMALLEST, math.inf))


def _exp(value: Any, ops: Operators[Any]) -> Any:
    return ops.exp(ops.clip(value, -EXPONENT, EXPONENT))


def _divisor(value: Any, ops: Operators[Any]) -> Any:
    below, above = ops.clip(value, -math.inf, -SMALLEST), ops.clip(value, SMALLEST, math.inf)
    return ops.where(value < 0, below, above)


def _extreme(op: str, left: Any, right: Any, ops: Operators[Any]) -> Any:
    if isinstance(left, float) and isinstance(right, float):
        return min(left, right) if op == "min" else max(left, right)
    if isinstance(left, float):
        left, right = right, left
    if isinstance(right, float):  # a clip: libraries differ in mixing arrays with numbers
        return ops.clip(left, -math.inf, right) if op == "min" else ops.clip(left, right, math.inf)
    return ops.minimum(left, right) if op == "min" else ops.maximum(left, right)
