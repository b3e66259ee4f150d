"""Section ``[tasks]``: the labels that a recommender learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from evorec.config.section import Section


class QuantileKind(Section):
    """A task whose labels are numbers, of which a quantile is learned, e.g. what 90 % of the rows stay below."""

    quantile: float = Field(gt=0, lt=1, description="share of rows whose label is to be below the prediction")


def _kind_tag(value: Any) -> str | None:
    if isinstance(value, QuantileKind | Mapping):
        return "quantile"
    return "name" if value in ("binary", "regression") else None


TaskKind = Annotated[
    Annotated[Literal["binary", "regression"], Tag("name")] | Annotated[QuantileKind, Tag("quantile")],
    Discriminator(_kind_tag, custom_error_type="kind", custom_error_message="no kind of task"),
]
"""What the labels of a task are: 0 and 1, numbers whose mean is learned, or numbers of which a quantile is."""


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
    """Which label columns are learned."""

    ranked: tuple[str, ...] = Field((), description="label columns that the ranker learns, one tower each")
    target: str = Field("", description="label column whose positives are retrieved and counted by recall")
    funnel: tuple[str, ...] = Field(
        (), description="ranked tasks in order, each later one implies the earlier ones, e.g. click, purchase"
    )
    given: dict[str, str] = Field(
        {}, description="ranked task -> label whose positives are the only rows it is learned and measured on"
    )
    kinds: dict[str, TaskKind] = Field(
        {},
        description="ranked task -> what its labels are: binary (0 and 1; the default), regression (numbers, squared "
        "error), {quantile = 0.9} (numbers, pinball loss)",
    )
    lower_is_better: tuple[str, ...] = Field(
        (),
        description="ranked tasks whose high values are bad, e.g. a side effect, a waiting time or what something "
        "costs: they count against an item in lists; losses and AUC do not change",
    )

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
                f"lower_is_better names {wanted}, and the target and the steps of the funnel are what lists look for; "
                "take them out of it"
            )
        if len(self.funnel) == 1:
            raise ValueError(f"funnel must have two or more tasks, or none, got {list(self.funnel)}")
        counted = dict.fromkeys((*self.funnel, self.target))
        if numbers := [task for task in counted if self.kinds.get(task, "binary") != "binary"]:
            raise ValueError(
                f"the steps of the funnel and target must be binary, and kinds makes {numbers} numbers; make a label "
                "of 0 and 1 of it for that, e.g. rating >= 4"
            )
        for task in self.given:
            chain = self.conditions(task)
            if chain[-1] in chain[:-1]:
                raise ValueError(f"given goes in a circle: {' among '.join(chain)}")
        return self

    def kind_of_each(self) -> dict[str, TaskKind]:
        """Every ranked task, in order, and what its labels are.

        Example:
            >>> TasksConfig(ranked=("click", "watch"), kinds={"watch": "regression"}).kind_of_each()
            {'click': 'binary', 'watch': 'regression'}
        """
        return {task: self.kinds.get(task, "binary") for task in self.ranked}

    def signs(self) -> tuple[int, ...]:
        """1 or -1 for every ranked task, as its logit counts in lists, ``(T,)``; empty = all count as they are.

        Example:
            >>> TasksConfig(ranked=("click", "pain"), lower_is_better=("pain",)).signs()
            (1, -1)
        """
        if not self.lower_is_better:
            return ()
        return tuple(-1 if task in self.lower_is_better else 1 for task in self.ranked)

    def conditions(self, task: str) -> tuple[str, ...]:
        """The task, the label it is given, the label that one is given, and so on; a circle ends at its first repeat.

        Example:
            >>> TasksConfig(ranked=("click", "buy"), given={"buy": "click"}).conditions("buy")
            ('buy', 'click')
        """
        chain = [task]
        while chain[-1] in self.given and len(set(chain)) == len(chain):
            chain.append(self.given[chain[-1]])
        return tuple(chain)
