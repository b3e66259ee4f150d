"""What the genomes of the front have in common: a small decision tree, in the units of the genes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
from numpy.typing import NDArray

from evorec.objectives import FloatArray
from evorec.seeds import child_seed
from evorec.space.gene import show
from evorec.space.genes import Boolean, Categorical, OrderedGene, Simplex
from evorec.space.observed import observed_space

if TYPE_CHECKING:
    from sklearn.tree import DecisionTreeClassifier

LEAST_OF_A_KIND: Final = 8
"""Genomes on the front, and others: fewer say nothing about a difference."""
LEAST_SKILL: Final = 0.65
"""Balanced accuracy on unseen genomes below which no rule is shown; guessing has .5. Of 64 genomes without any
difference, fewer than 1 in 100 sets reach it by chance."""
DEPTH: Final = 3
LEAF_SHARE: Final = 0.05
"""Least share of the genomes in a leaf."""
FOLDS, REPEATS = 5, 5
"""Of the cross-validation; the divisions differ in each repeat."""


@final
@dataclass(frozen=True)
class Rule:
    """A leaf of the tree where genomes of the front are frequent.

    Attributes:
        conditions: in words; all of them hold.
        n_front, n: genomes on the front, and all genomes, where they hold.
    """

    conditions: tuple[str, ...]
    n_front: int
    n: int

    def __str__(self) -> str:
        return f"{', '.join(self.conditions)}: {self.n_front} of {self.n} genomes are on the front"


@final
@dataclass(frozen=True)
class FrontRules:
    """What distinguishes the genomes of the front.

    Attributes:
        n_front, n: genomes on the front, and all genomes.
        skill: balanced accuracy on genomes, or worlds, that a tree did not see; 0.5 is guessing. ``None`` where no tree
            was grown.
        rules: leaves where the front is more frequent than in all genomes, the largest first.
        reason: why there are no rules; empty otherwise.
    """

    n_front: int
    n: int
    skill: float | None
    rules: tuple[Rule, ...] = ()
    reason: str = ""


@final
@dataclass(frozen=True)
class _Column:
    """A column of the tree: a number, or whether a choice is the option.

    Attributes:
        name: of the gene, or of the part of a gene.
        values: float64 ``(N,)``, NaN where the gene is inactive.
        option: of a choice, else ``None``.
        is_switch: whether the values are yes and no.
        active: when the gene is active, in words: ``PARENT is VALUE``.
    """

    name: str
    values: FloatArray
    option: str | None = None
    is_switch: bool = False
    active: str = ""

    def words(self, low: float, high: float, with_inactive: bool) -> str:
        """The condition ``low < value <= high``, in values that occurred."""
        known = self.values[np.isfinite(self.values)]
        inside, has_inactive = known[(known > low) & (known <= high)], len(known) < len(self.values)
        if self.option is not None:
            return f"{self.name} is {'' if low > 0 else 'not '}{self.option}"
        if len(inside) in (0, len(known)):  # only whether it is active counts
            condition = self.active or f"{self.name} is active"
            return condition if len(inside) else condition.replace(" is ", " is not ", 1)
        ends = f"{inside.min():.4g}", f"{inside.max():.4g}"
        if self.is_switch:
            text = f"{self.name} is {'yes' if low > 0 else 'no'}"
        elif ends[0] == ends[1]:
            text = f"{self.name} is {ends[0]}"
        elif math.isinf(low):
            text = f"{self.name} at most {ends[1]}"
        else:
            text = f"{self.name} at least {ends[0]}" if math.isinf(high) else f"{self.name} from {ends[0]} to {ends[1]}"
        return text + (" or not active" if with_inactive and has_inactive else "")


def front_rules(
    specs: Sequence[Mapping[str, Any]],
    on_front: Sequence[bool],
    *,
    worlds: Sequence[str] | None = None,
    seed: int = 0,
) -> FrontRules:
    """Conditions on genes under which genomes are on the front more often.

    A classification tree of depth 3 (Breiman et al. 1984, by scikit-learn), in which front and rest weigh the same.

    Args:
        specs: N genomes that were trained to the end, decoded.
        on_front: whether each is on the front.
        worlds: the world of each genome, if there are several; the skill is then that on unseen worlds.
        seed: of the division into folds.
    Returns:
        The rules, and the skill of such trees on genomes that they did not see. Rules are missing where the skill is
        below `LEAST_SKILL`.
    Example:
        >>> specs = [{"rate": rate, "tower": rate % 2 == 0} for rate in range(60)]
        >>> found = front_rules(specs, [20 <= spec["rate"] < 40 for spec in specs])
        >>> print(found.rules[0])
        rate from 20 to 39: 20 of 20 genomes are on the front
    """
    y = np.asarray(on_front, dtype=bool)
    n, n_front = len(y), int(y.sum())
    if min(n_front, n - n_front) < LEAST_OF_A_KIND:
        reason = (
            f"{n_front} of {n} genomes are on the front; at least {LEAST_OF_A_KIND} on it and {LEAST_OF_A_KIND} others "
            "are needed"
        )
        return FrontRules(n_front, n, None, reason=reason)
    columns = list(_columns(specs))
    if not columns:
        return FrontRules(n_front, n, None, reason="all genomes are equal")
    from sklearn.tree import DecisionTreeClassifier

    X = np.stack([column.values for column in columns], axis=1)
    leaf = max(2, round(LEAF_SHARE * n))
    tree = DecisionTreeClassifier(max_depth=DEPTH, min_samples_leaf=leaf, class_weight="balanced", random_state=0)
    skill = _skill(tree, X, y, worlds, seed)
    if skill < LEAST_SKILL:
        reason = (
            f"a tree tells unseen genomes of the front from others with a balanced accuracy of {skill:.2f}, and "
            f"{LEAST_SKILL:.2f} is needed (guessing: 0.50)"
        )
        return FrontRules(n_front, n, skill, reason=reason)
    tree.fit(X, y)
    rules = sorted(_rules(tree.tree_, columns, tree.apply(X), y), key=lambda rule: -rule.n_front)
    return FrontRules(n_front, n, skill, tuple(rules))


def _columns(specs: Sequence[Mapping[str, Any]]) -> Iterator[_Column]:
    for gene in observed_space(specs).genes:
        values, when = [spec.get(gene.name) for spec in specs], str(gene.condition or "")
        if isinstance(gene, OrderedGene | Boolean):
            numbers = [math.nan if value is None else float(value) for value in values]
            yield _Column(gene.name, np.array(numbers), None, isinstance(gene, Boolean), when)
        elif isinstance(gene, Simplex):
            for index, part in enumerate(gene.parts):
                weights = [
                    math.nan if value is None or index >= len(value) else float(value[index]) for value in values
                ]
                yield _Column(part, np.array(weights), active=when)
        elif isinstance(gene, Categorical):
            for option in gene.options:
                chosen = [float(value == option and type(value) is type(option)) for value in values]
                yield _Column(gene.name, np.array(chosen), option if isinstance(option, str) else show(option))


def _skill(
    tree: DecisionTreeClassifier, X: FloatArray, y: NDArray[np.bool_], worlds: Sequence[str] | None, seed: int
) -> float:
    """Balanced accuracy on unseen genomes or worlds, mean of the repeats."""
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict

    found = []
    for repeat in range(REPEATS):
        number = child_seed(seed, "folds of the front", repeat) % 2**32
        n_worlds = len(set(worlds or ()))
        folds = (
            StratifiedGroupKFold(min(FOLDS, n_worlds), shuffle=True, random_state=number)
            if n_worlds > 1
            else StratifiedKFold(FOLDS, shuffle=True, random_state=number)
        )
        predicted = cross_val_predict(tree, X, y, groups=worlds if n_worlds > 1 else None, cv=folds)
        found.append(balanced_accuracy_score(y, predicted))
    return float(np.mean(found))


def _rules(tree: Any, columns: Sequence[_Column], leaf_of: NDArray[np.intp], y: NDArray[np.bool_]) -> Iterator[Rule]:
    """The largest subtrees in whose every leaf the front is more frequent than in all genomes."""
    share = y.mean()

    def leaves(node: int) -> list[int]:
        if tree.children_left[node] < 0:
            return [node]
        return [*leaves(tree.children_left[node]), *leaves(tree.children_right[node])]

    def below(node: int, bounds: Mapping[int, tuple[float, float, bool]]) -> Iterator[Rule]:
        ends = leaves(node)
        above = [y[leaf_of == leaf].mean() > share for leaf in ends]
        if all(above):
            rows = np.isin(leaf_of, ends)
            words = tuple(columns[index].words(*interval) for index, interval in bounds.items())
            yield Rule(words, int(y[rows].sum()), int(rows.sum()))
        elif any(above):
            index, threshold = int(tree.feature[node]), float(tree.threshold[node])
            low, high, with_inactive = bounds.get(index, (-math.inf, math.inf, True))
            inactive_left = bool(tree.missing_go_to_left[node])
            left = (low, min(high, threshold), with_inactive and inactive_left)
            right = (max(low, threshold), high, with_inactive and not inactive_left)
            yield from below(tree.children_left[node], {**bounds, index: left})
            yield from below(tree.children_right[node], {**bounds, index: right})

    yield from below(0, {})
