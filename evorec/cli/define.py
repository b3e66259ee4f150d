"""Commands about configurations, before anything is run: problems, validate."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evorec.cli.app import DEFINE, Config, Overrides, ProblemName, command
from evorec.cli.output import Format, Output
from evorec.cli.trained import (
    data_of,
    features_of,
    objective_table,
    objectives_of,
    settings_table,
    task_table,
    tasks_of,
)
from evorec.cli.untrained import description, facts_table
from evorec.cli.untrained import facts as untrained_facts
from evorec.config import (
    RecommenderConfig,
    RunConfig,
    TasksConfig,
    installed_problems,
    keys,
    load_config,
    problem_definition,
)
from evorec.errors import ConfigError
from evorec.report.table import Column, Row, Table, show

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evorec.config import TaskKind
    from evorec.data.tables import Tables
    from evorec.space.space import SearchSpace

BASELINES = ("popularity", "item_knn", "ease")
"""What a constraint may name."""


@command(panel=DEFINE, order=10)
def problems(
    output: Output,
    name: Annotated[str | None, typer.Argument(help="Problem to describe.", show_default=False)] = None,
) -> None:
    """List the installed problem definitions, or describe one."""
    if name is not None:
        _describe(output, name)
        return
    lines = {known: _first_line(known) for known in installed_problems()}
    rows = tuple(Row(known, (line,)) for known, line in lines.items())
    output.result(lines, Table("Problems", "name", (Column("scenario"),), rows))
    output.next_step("evorec search --problem NAME")


def _first_line(name: str) -> str:
    """What a problem is about; one that cannot be loaded says why and does not hide the others."""
    try:
        return problem_definition(name).scenario.partition("\n")[0]
    except ConfigError as error:
        return str(error)


def _describe(output: Output, name: str) -> None:
    definition, config = problem_definition(name), load_config(problem=name)
    scenario = definition.scenario
    if not isinstance(config, RecommenderConfig):
        from evorec.problem import load_problem

        built = load_problem(config)
        value = description(built, config, scenario)
        output.result(value, text=output.wrapped(scenario))
        if output.form is Format.TABLE:
            output.result(value, facts_table(built, config), _gene_table(built.space))
        output.next_step(f"evorec search --problem {name}")
        return
    tables, unknown = data_of(definition, config)
    space = _space(config, tables, name)
    features = features_of(tables, config) if tables else None
    objectives = objectives_of(config)
    value = {
        "name": name,
        "scenario": scenario,
        "tasks": tasks_of(config),
        "target": config.tasks.target,
        "features": features or unknown,
        "objectives": objectives,
        "constraints": list(config.constraints),
        "reference_point": {one["name"]: one["worst"] for one in objectives},
        "genes": [asdict(info) for info in space.describe()],
        "config": config.model_dump(mode="json"),
    }
    output.result(value, text=output.wrapped(scenario))
    if output.form is Format.TABLE:
        settings = settings_table(config, features, unknown)
        output.result(value, settings, task_table(config), objective_table(config), _gene_table(space))
    output.next_step(f"evorec search --problem {name}", f"evorec validate --problem {name} --keys")


@command(
    panel=DEFINE,
    order=20,
    epilog="Every key with its default, range and unit, as a file to start from: evorec validate --keys > my.toml",
)
def validate(
    output: Output,
    config: Config = None,
    problem: ProblemName = None,
    overrides: Overrides = None,
    list_keys: Annotated[
        bool, typer.Option("--keys", metavar="", help="Print every key with default, range and unit, as TOML.")
    ] = False,
    data: Annotated[bool, typer.Option(metavar="", help="Read and split the data too.")] = True,
) -> None:
    """Check a configuration and its data without running anything."""
    if list_keys:
        named = config is not None or problem is not None
        listed = load_config(config, problem=problem, overrides=overrides or []) if named else RecommenderConfig()
        output.result([asdict(key) for key in keys(listed)], text=template(listed))
        return
    settings = load_config(config, problem=problem, overrides=overrides or [])
    source = str(config or f"--problem {problem}")
    facts = _checked(settings, source, data=data) if isinstance(settings, RecommenderConfig) else _built(settings)
    rows = tuple(Row(name, (value,)) for name, value in facts.items())
    output.result(facts, Table(f"{source} is valid", "", (Column(""),), rows))
    output.next_step(f"evorec search {config}" if config else f"evorec search --problem {problem}")


def _checked(config: RecommenderConfig, source: str, *, data: bool) -> dict[str, Any]:
    """Facts of a recommender problem, once every name in its configuration exists."""
    tables, facts = _read(config) if data else (None, {})
    _check_names(config, tables, source)
    evaluations = config.search.population * config.search.generations
    return {"problem": config.problem, **facts, "evaluations": evaluations}


def _built(config: RunConfig) -> dict[str, Any]:
    """Facts of a problem that trains nothing; building it checks everything but the search."""
    from evorec.objectives import check_weights
    from evorec.problem import load_problem
    from evorec.search.algorithm import check_algorithm

    check_algorithm(config.search.algorithm, config.search.options)
    problem = load_problem(config)
    check_weights(config.search.weights, [objective.name for objective in problem.objectives])
    return untrained_facts(problem, config)


def template(config: RunConfig) -> str:
    """Every setting as a TOML file with comments; reading it gives `config` again.

    Genes, boxes and sources of content, which have no default, and settings without a value are commented out.
    """
    sections: dict[str, list[str]] = {}
    for key in keys(config):
        section, _, name = key.name.rpartition(".")
        line = f"{name} = {key.default}" if key.default else f"# {name} ="
        sections.setdefault(section, []).append(f"# {key.meaning}; {key.expects}\n{line}")
    top = sections.pop("")
    heads = {name: f"# [{name}]" if "<" in name else f"[{name}]" for name in sections}
    return "\n\n".join(["\n".join(top), *(f"{heads[name]}\n" + "\n".join(sections[name]) for name in sections)])


def _read(config: RecommenderConfig) -> tuple[Tables, dict[str, Any]]:
    """The data set and what a person checks first: its size, part by part, and how often each label is 1."""
    from evorec.data.groups import users_with
    from evorec.data.readers import read
    from evorec.data.splits import split
    from evorec.data.tables import Columns

    tables = read(config.data)
    parts = split(tables, config.split)
    if config.evaluation.groups:
        users_with(config.evaluation.groups, tables)
    log = tables.interactions
    return tables, {
        "data": f"{tables.name}, sha256 {tables.sha256()[:12]}",
        "rows": tables.n_rows,
        "users": log[Columns.USER].n_unique(),
        "items": log[Columns.ITEM].n_unique() if tables.items is None else tables.items.height,
        "rows by part": {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)},
        "label means": {task: log[task].mean() for task in tables.tasks},
    }


def _check_names(config: RecommenderConfig, tables: Tables | None, source: str) -> None:
    """Every task, gene, metric and baseline that is named must exist; nothing is computed.

    Raises:
        ConfigError: lists all that do not.
    """
    known = tables.tasks if tables else None
    tasks = config.tasks.kind_of_each() or (TasksConfig(ranked=known).kind_of_each() if known else None)
    wanted = (*config.tasks.ranked, *filter(None, [config.tasks.target]))
    errors = [
        f"tasks ({source}): {name!r} is no label column of the data; known: {', '.join(known)}."
        for name in wanted
        if known is not None and name not in known
    ]
    checks: list[Callable[[], object]] = [
        partial(_check_settings, config),
        partial(_check_algorithm, config),
        partial(_check_objectives, config, tasks),
        partial(_space, config, tables, source),
    ]
    checks += [partial(_check_constraint, text, config, tasks) for text in config.constraints]
    checks += [partial(_check_pick, text, config, tasks) for text in config.finalize.picks]
    for check in checks:
        try:
            check()
        except ConfigError as error:
            errors.append(str(error))
    if errors:
        raise ConfigError("\n".join(errors))


def _check_algorithm(config: RecommenderConfig) -> None:
    from evorec.search.algorithm import check_algorithm

    check_algorithm(config.search.algorithm, config.search.options)


def _check_settings(config: RecommenderConfig) -> None:
    from evorec.objectives import check_metrics

    check_metrics(config)


def _check_objectives(config: RecommenderConfig, tasks: Mapping[str, TaskKind] | None) -> None:
    from evorec.metrics.metric import all_metrics
    from evorec.objectives import build_objectives

    k = config.evaluation.k
    costs = {
        metric.key(k=k, task=task): (1.0, 10.0) if metric.direction == "min" else (10.0, 1.0)
        for metric in all_metrics()
        for task in tasks or ("",)
        if metric.ideal is None
    }  # only their names matter here
    build_objectives(config.objectives, k=k, box=config.box, cost_bounds=costs, tasks=tasks)


def _check_pick(text: str, config: RecommenderConfig, tasks: Mapping[str, TaskKind] | None) -> None:
    from evorec.archive.decide import check_pick

    check_pick(text, (), config.evaluation.k, tasks=tasks)


def _check_constraint(text: str, config: RecommenderConfig, tasks: Mapping[str, TaskKind] | None) -> None:
    from evorec.metrics.metric import all_metrics
    from evorec.objectives import parse_constraint

    k = config.evaluation.k
    measured = {metric.key(k=k): 1.0 for metric in all_metrics() if metric.has_baselines}
    parse_constraint(text, k=k, baselines=dict.fromkeys(BASELINES, measured), tasks=tasks)


def _space(config: RecommenderConfig, tables: Tables | None, source: str) -> SearchSpace:
    """The search space; without the data, tasks, blocks and days are stand-ins."""
    from evorec.recommender.search_space import SpaceFacts, recommender_space

    facts = SpaceFacts.unknown(config) if tables is None else SpaceFacts.of_tables(tables, config)
    return recommender_space(config, facts, source=source)


def _gene_table(space: SearchSpace) -> Table:
    """What evolves; `GeneInfo` is the long form, and only meanings may be too wide for a terminal."""
    from evorec.models.spec import is_of_block
    from evorec.space.genes import Categorical, Fixed

    rows = []
    for info in space.describe():
        gene = space.gene(info.name)
        if isinstance(gene, Fixed) and is_of_block(info.name):
            continue  # inputs = "all": the settings name the features
        domain, meaning = _short(info.domain), info.text
        if isinstance(gene, Categorical):
            domain = f"{len(gene.options)} options"
            meaning += f"; one of {', '.join(map(show, gene.options))}"
        default = json.dumps(info.default) if isinstance(info.default, bool) else info.default
        rows.append(Row(info.name, (domain, default, meaning + (f", when {info.condition}" if info.condition else ""))))
    return Table("\nGenes", "gene", (Column("domain"), Column("default"), Column("meaning")), tuple(rows))


def _short(domain: str) -> str:
    """A domain in a few letters; the tasks of the weights and the word for 2^n stand elsewhere."""
    return re.sub(r"^weights of .* with ", "", domain).replace("(powers of two)", "(2^n)")
