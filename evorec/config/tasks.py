"""Section ``[tasks]``: the labels that a recommender learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from evorec.config.section import Section


class QuantileKind(Section):
    """A task with numeric labels whose quantile is learned, e.g. the value that 90 % of the rows are below."""

    quantile: float = Field(gt=0, lt=1)
    """share of rows whose label is below the prediction"""


def _kind_tag(value: Any) -> str | None:
    if isinstance(value, QuantileKind | Mapping):
        return "quantile"
    return "name" if value in ("binary", "regression") else None


TaskKind = Annotated[
    Annotated[Literal["binary", "regression"], Tag("name")] | Annotated[QuantileKind, Tag("quantile")],
    Discriminator(_kind_tag, custom_error_type="kind", custom_error_message="unknown kind of task"),
]
"""Labels of a task: 0 and 1, numbers whose mean is learned, or numbers whose quantile is learned."""


def kind_name(kind: TaskKind) -> Literal["binary", "regression", "quantile"]:
    """The kind without its number.

    Example:
        >>> kind_name("regression"), kind_name(QuantileKind(quantile=0.9))
        ('regression', 'quantile')
    """
    return "quantile" if isinstance(kind, QuantileKind) else kind


def task_in_words(task: str, kind: TaskKind) -> str:
    """A task with its kind, where it is not binary.

    Example:
        >>> [task_in_words("watch", kind) for kind in ("binary", "regression", QuantileKind(quantile=0.9))]
        ['watch', 'watch (regression)', 'watch (quantile 0.9)']
    """
    if isinstance(kind, QuantileKind):
        return f"{task} (quantile {kind.quantile:g})"
    return task if kind == "binary" else f"{task} ({kind})"


class TasksConfig(Section):
    """The label columns that are learned."""

    ranked: tuple[str, ...] = ()
    """label columns that the ranker learns, with a tower each"""
    target: str = ""
    """label column whose positives are retrieved and counted by recall"""
    funnel: tuple[str, ...] = ()
    """ranked tasks of which each implies the previous task, in order, e.g. click, purchase"""
    given: dict[str, str] = Field({})
    """ranked task -> label; the task is learned and measured on the positives of this label only"""
    kinds: dict[str, TaskKind] = Field({})
    """ranked task -> its labels: binary (0 and 1; the default), regression (numbers, squared error), {quantile = 0.9}
    (numbers, pinball loss)"""
    sampled_negatives: int = Field(0, ge=0, le=1000)
    """for a log of positives: items drawn at random per positive row that the user has not met, as rows with label 0;
    AUC is then measured against them, not against items that were shown; 0 = none"""
    lower_is_better: tuple[str, ...] = ()
    """ranked tasks whose high values are bad, e.g. a side effect, a waiting time or a cost: they lower the score of an
    item in lists; losses and AUC do not change"""

    @model_validator(mode="after")
    def _names_fit_together(self) -> TasksConfig:
        lower = self.lower_is_better
        for name, tasks in (("ranked", self.ranked), ("funnel", self.funnel), ("lower_is_better", lower)):
            if len(set(tasks)) != len(tasks):
                raise ValueError(f"{name} lists a task twice: {list(tasks)}")
        named = {"funnel": self.funnel, "given": self.given, "kinds": self.kinds, "lower_is_better": lower}
        for name, some in named.items():
            if unknown := [task for task in some if task not in self.ranked]:
                raise ValueError(f"{name} names {unknown}, which must be among ranked, {list(self.ranked)}")
        if wanted := [task for task in lower if task in (*self.funnel, self.target)]:
            raise ValueError(
                f"lower_is_better must not name the target or steps of the funnel, which lists maximise, got {wanted}"
            )
        if len(self.funnel) == 1:
            raise ValueError(f"funnel must have two or more tasks, or none, got {list(self.funnel)}")
        counted = dict.fromkeys((*self.funnel, self.target))
        if numbers := [task for task in counted if self.kinds.get(task, "binary") != "binary"]:
            raise ValueError(
                f"the steps of the funnel and the target must be binary, got {numbers} with numbers in kinds; define a "
                "binary label, e.g. rating >= 4"
            )
        if self.sampled_negatives and not any(kind == "binary" for kind in self.kind_of_each().values()):
            raise ValueError("sampled_negatives are for binary tasks, and ranked has none: name e.g. the target in it")
        for task in self.given:
            chain = self.conditions(task)
            if chain[-1] in chain[:-1]:
                raise ValueError(f"given has a cycle: {' among '.join(chain)}")
        return self

    def kind_of_each(self) -> dict[str, TaskKind]:
        """The kind of every ranked task, in order.

        Example:
            >>> TasksConfig(ranked=("click", "watch"), kinds={"watch": "regression"}).kind_of_each()
            {'click': 'binary', 'watch': 'regression'}
        """
        return {task: self.kinds.get(task, "binary") for task in self.ranked}

    def describe(self) -> list[dict[str, Any]]:
        """The ranked tasks as plain JSON: kind, better end, step of the funnel, label that selects their rows.

        Example:
            >>> TasksConfig(ranked=("click", "watch"), kinds={"watch": {"quantile": 0.9}}).describe()[1]
            {'name': 'watch', 'kind': 'quantile 0.9', 'better': 'high', 'funnel_step': None, 'given': None}
        """
        return [
            {
                "name": task,
                "kind": task_in_words("", kind).strip(" ()") or "binary",
                "better": "low" if task in self.lower_is_better else "high",
                "funnel_step": self.funnel.index(task) + 1 if task in self.funnel else None,
                "given": self.given.get(task),
            }
            for task, kind in self.kind_of_each().items()
        ]

    def signs(self) -> tuple[int, ...]:
        """Sign of the logit of every ranked task in list scores, ``(T,)``; empty = all are positive.

        Example:
            >>> TasksConfig(ranked=("click", "pain"), lower_is_better=("pain",)).signs()
            (1, -1)
        """
        if not self.lower_is_better:
            return ()
        return tuple(-1 if task in self.lower_is_better else 1 for task in self.ranked)

    def conditions(self, task: str) -> tuple[str, ...]:
        """The task, its condition in `given`, the condition of that label, and so on; a cycle ends at its first repeat.

        Example:
            >>> TasksConfig(ranked=("click", "buy"), given={"buy": "click"}).conditions("buy")
            ('buy', 'click')
        """
        chain = [task]
        while chain[-1] in self.given and len(set(chain)) == len(chain):
            chain.append(self.given[chain[-1]])
        return tuple(chain)
