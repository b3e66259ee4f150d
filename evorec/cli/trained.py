"""What the command line says of a problem that trains recommenders: its configuration, and its data if they are there.

Nothing is trained, and missing data are no error: what depends on them is said to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from evorec.config import ProblemDefinition, RecommenderConfig, task_in_words
from evorec.errors import EvorecError
from evorec.report.table import Column, Row, Table, show

if TYPE_CHECKING:
    from evorec.data.tables import Tables

FROM_DATA: Final = "from the data"
"""Stands for a corner that no setting and no definition gives."""


def data_of(definition: ProblemDefinition, config: RecommenderConfig) -> tuple[Tables | None, str]:
    """The data, where they are simulated, or where features are searched and the files are found.

    Args:
        definition: of the problem; without ``data.reader`` in its defaults it brings its own data.
        config: of the problem.
    Returns:
        The tables, without vectors of ``data.content``; or ``None`` and why they are not known.
    """
    from evorec.data.readers import SIMULATOR, read

    if "reader" not in definition.defaults.get("data", {}):
        return None, "known once the problem is built, which brings its own data"
    if config.data.reader != SIMULATOR and config.inputs == "all":
        return None, "all that the data have"
    try:
        return read(config.data.model_copy(update={"content": {}})), ""
    except EvorecError as error:
        return None, f"known once the data are: {error}"


def features_of(tables: Tables, config: RecommenderConfig) -> dict[str, list[str]]:
    """Names of the features of users, items and the moment, and of the parts of the content."""
    return {
        "user": [feature.name for feature in tables.user_features],
        "item": [feature.name for feature in tables.item_features],
        "context": [feature.name for feature in tables.context],
        "content": list(dict.fromkeys((*tables.content, *config.data.content))),
    }


def tasks_of(config: RecommenderConfig) -> list[dict[str, Any]]:
    """The ranked tasks: kind, which way is better, place in the funnel, and the rows that count."""
    tasks = config.tasks
    return [
        {
            "name": task,
            "kind": task_in_words("", kind).strip(" ()") or "binary",
            "better": "low" if task in tasks.lower_is_better else "high",
            "funnel_step": tasks.funnel.index(task) + 1 if task in tasks.funnel else None,
            "given": tasks.given.get(task),
        }
        for task, kind in tasks.kind_of_each().items()
    ]


def objectives_of(config: RecommenderConfig) -> list[dict[str, Any]]:
    """The objectives with the corners of their axis of the hypervolume box; ``None`` = the data will tell.

    The reference point is the worst corner of each.

    Raises:
        ConfigError: an objective or a box names no metric.
    """
    from evorec.objectives import find_metric, resolve

    k, kinds = config.evaluation.k, config.tasks.kind_of_each()
    boxes = {resolve(name, k, tasks=kinds): box for name, box in config.box.items()}
    out = []
    for name in config.objectives:
        metric = resolve(name, k, tasks=kinds)
        info, box = find_metric(metric), boxes.get(metric)
        out.append(
            {
                "name": name,
                "metric": metric,
                "direction": info.direction,
                "unit": info.unit,
                "ideal": box.ideal if box else info.ideal,
                "worst": box.worst if box else info.worst,
                "log10": info.log10,
                "text": info.text,
            }
        )
    return out


def settings_table(config: RecommenderConfig, features: Mapping[str, list[str]] | None, unknown: str) -> Table:
    """What a problem asks for, as long as nothing else is set.

    Args:
        config: of the problem.
        features: as from `features_of`; ``None`` = `unknown` says why.
        unknown: shown instead of them.
    """
    search, measured, data = config.search, config.evaluation, config.data
    source = f"{data.reader}, {data.simulator.scenario}" if data.reader == "simulator" else data.reader
    if features is None:
        inputs: Any = unknown
    else:
        switched = "the genome chooses among" if config.inputs == "search" else "all of"
        inputs = f"{switched} " + "; ".join(f"{side} {show(names)}" for side, names in features.items() if names)
    facts = {
        "data": source + (f", {data.path}" if data.path else ""),
        "features": inputs,
        "split": config.split.kind,
        "target": f"{config.tasks.target}: its positives are retrieved",
        "lists": f"k = {measured.k} items out of {measured.candidates} candidates",
        "constraints": config.constraints or "none",
        "budget": f"{search.population} x {search.generations} trainings of {config.training.steps} steps",
    }
    return Table("\nSettings", "", (Column(""),), tuple(Row(name, (fact,)) for name, fact in facts.items()))


def task_table(config: RecommenderConfig) -> Table:
    """The ranked tasks for a terminal."""
    columns = (Column("kind"), Column("better"), Column("funnel"), Column("learned on"))
    rows = []
    for task in tasks_of(config):
        step, given = task["funnel_step"], task["given"]
        rows.append(
            Row(
                task["name"],
                (
                    task["kind"],
                    task["better"],
                    f"step {step}" if step else "",
                    f"rows with {given}" if given else "all rows",
                ),
            )
        )
    return Table("\nTasks", "task", columns, tuple(rows))


def objective_table(config: RecommenderConfig) -> Table:
    """The objectives for a terminal."""
    columns = (Column("better"), Column("unit"), Column("ideal"), Column("reference point"), Column("meaning"))
    better = {"max": "high", "min": "low"}
    rows = []
    for one in objectives_of(config):
        corners = [FROM_DATA if one[corner] is None else one[corner] for corner in ("ideal", "worst")]
        scale = ", box on a log scale" if one["log10"] else ""
        rows.append(Row(one["name"], (better[one["direction"]], one["unit"], *corners, one["text"] + scale)))
    return Table("\nObjectives", "objective", columns, tuple(rows))
