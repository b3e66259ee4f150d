"""Defaults of a problem that its data cannot have: they are left out, with a note. Settings of a person never are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from evorec.config import EncoderContent, RecommenderConfig, Section, TasksConfig, TextContent
from evorec.data.tables import Columns, Tables
from evorec.errors import ConfigError
from evorec.models.spec import RANK, USE, is_of_block
from evorec.objectives import named_metrics, resolve

Notes = list[str]
S = TypeVar("S", bound=Section)


def suitable_defaults(config: RecommenderConfig, tables: Tables) -> tuple[RecommenderConfig, Notes]:
    """The configuration without defaults that name a column which the tables do not have.

    Args:
        config: of the run; its origins tell defaults from the settings of a person.
        tables: as they are read, without the vectors of ``data.content``.
    Returns:
        The configuration, and a line about each default that was left out.
    """
    notes: Notes = []

    def left_out(key: str, names: Collection[str], why: str) -> None:
        notes.append(f"{key}: {', '.join(names)} ({config.origins.of(key)}) left out: {tables.name} {why}.")

    data, tasks, evaluation = config.data, _tasks(config, tables, left_out), config.evaluation
    user, item = ([f.name for f in features] for features in (tables.user_features, tables.item_features))
    fields = {"user", "item", *user, *item, *(feature.name for feature in tables.context)}
    if config.origins.is_default("data.statistics"):
        wrong = [key for key in data.statistics if not {*key.split("+")} <= fields]
        if wrong:
            left_out("data.statistics", wrong, "has no such feature")
            data = _changed(data, statistics=tuple(key for key in data.statistics if key not in wrong))
    texts = set() if tables.items is None else {*tables.items.columns}
    for name, source in data.content.items():
        if not isinstance(source, TextContent | EncoderContent) or {*source.columns} <= texts:
            continue
        if config.origins.is_default(f"data.content.{name}"):
            left_out(f"data.content.{name}", source.columns, "has no such column of items")
            data = _changed(data, content={other: own for other, own in data.content.items() if other != name})
    groups, columns = evaluation.groups, set() if tables.users is None else {*tables.users.columns} - {Columns.USER}
    if groups and groups not in columns and config.origins.is_default("evaluation.groups"):
        left_out("evaluation.groups", [groups], "has no such column of users")
        evaluation = _changed(evaluation, groups="")
    if evaluation.spend and evaluation.spend not in tasks.ranked and config.origins.is_default("evaluation.spend"):
        left_out("evaluation.spend", [evaluation.spend], "has no such ranked task")
        evaluation = _changed(evaluation, spend="")
    blocks = {*user, *item, *(feature.name for feature in tables.context), *tables.content, *data.content}
    named = {gene: gene.removeprefix(USE).removeprefix(RANK) for gene in config.space if is_of_block(gene)}
    known = {*blocks, *(f"{side}_{name}" for side in ("user", "item", "context", "content") for name in blocks)}
    genes = [g for g, name in named.items() if name not in known and config.origins.is_default(f"space.{g}")]
    if genes:
        left_out("space", genes, "has no such feature")
    space = {gene: value for gene, value in config.space.items() if gene not in genes}
    config = _changed(config, data=data, tasks=tasks, evaluation=evaluation, space=space)
    kinds = tasks.kind_of_each()
    contradicted = {
        name: reason
        for name, metric in named_metrics((*config.objectives, *config.constraints)).items()
        if metric.requires is not None and (reason := metric.requires(config, name))
    }
    for name in named_metrics((*config.objectives, *config.constraints, *config.box)):
        try:
            resolve(name, config.k, tasks=kinds)
        except ConfigError as error:
            contradicted[name] = str(error)
    return without_metrics(config, contradicted, notes), notes


def without_metrics(config: RecommenderConfig, reasons: Mapping[str, str], notes: Notes) -> RecommenderConfig:
    """The configuration without default objectives, constraints and boxes of metrics that cannot be measured.

    Args:
        config: of the run.
        reasons: name of a metric, as the configuration writes it -> why it cannot be measured.
        notes: a line about each is added.
    """
    changes: dict[str, Any] = {}
    for key in ("objectives", "constraints"):
        texts: tuple[str, ...] = getattr(config, key)
        wrong = {text: reason for text in texts for name in named_metrics([text]) if (reason := reasons.get(name))}
        # without any objective the error about the first is better than another about none
        if wrong and config.origins.is_default(key) and (key == "constraints" or len(wrong) < len(texts)):
            notes += [f"{key}: {text} ({config.origins.of(key)}) left out: {why}" for text, why in wrong.items()]
            changes[key] = tuple(text for text in texts if text not in wrong)
    boxes = {name: box for name, box in config.box.items() if not _is_default_of(name, config, reasons)}
    if len(boxes) < len(config.box):
        changes["box"] = boxes
    return _changed(config, **changes)


def _is_default_of(name: str, config: RecommenderConfig, reasons: Mapping[str, str]) -> bool:
    return name in reasons and config.origins.is_default(f"box.{name}")


def _tasks(config: RecommenderConfig, tables: Tables, left_out: Any) -> TasksConfig:
    """The tasks without default tasks of other data; if all are, they are kept to be refused."""
    tasks = config.tasks
    unknown = [task for task in tasks.ranked if task not in tables.tasks]
    if not unknown or len(unknown) == len(tasks.ranked) or not config.origins.is_default("tasks.ranked"):
        return tasks
    left_out("tasks.ranked", unknown, "has no such label")
    ranked = tuple(task for task in tasks.ranked if task in tables.tasks)
    funnel = tuple(task for task in tasks.funnel if task in ranked)
    return _changed(
        tasks,
        ranked=ranked,
        funnel=funnel if len(funnel) > 1 else (),
        given={task: of for task, of in tasks.given.items() if task in ranked and of in tables.tasks},
        kinds={task: kind for task, kind in tasks.kinds.items() if task in ranked},
        lower_is_better=tuple(task for task in tasks.lower_is_better if task in ranked),
    )


def _changed(section: S, **changes: Any) -> S:
    """A section with other values; the same object if they are equal."""
    changed = {name: value for name, value in changes.items() if getattr(section, name) != value}
    return section.model_copy(update=changed) if changed else section
