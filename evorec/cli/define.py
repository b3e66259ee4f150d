"""Commands about configurations, before anything is run: problems, validate."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evorec.cli.app import DEFINE, Config, Overrides, ProblemName, command, config_words
from evorec.cli.output import Output, fact_table
from evorec.errors import ConfigError, EvorecError
from evorec.report.table import Column, Row, Table, show

if TYPE_CHECKING:
    from evorec.config import ProblemDefinition, RecommenderConfig, RunConfig
    from evorec.data.tables import Tables
    from evorec.space.space import SearchSpace

FROM_DATA = "from the data"
"""Shown for a corner that depends on the data."""


@command(
    panel=DEFINE,
    order=10,
    examples=(
        "evorec problems",
        "evorec problems feed --format json",
    ),
)
def problems(
    output: Output,
    name: Annotated[
        str | None, typer.Argument(help="Problem to describe, or a Python file.", show_default=False)
    ] = None,
) -> None:
    """List the installed problems, or describe a problem: scenario, tasks, features, objectives and genes.

    Nothing is trained. Bounds of genes are those of a search if the data can be read.
    """
    from evorec.config import installed_problems, load_config, problem_definition

    if name is None:
        lines = {known: _first_line(known) for known in installed_problems()}
        rows = tuple(Row(known, (line,)) for known, line in lines.items())
        output.result(lines, Table("Problems", "name", (Column("scenario"),), rows))
        output.next_step("evorec", "search", "--problem", next(iter(lines), "NAME"))
        return
    definition, config = problem_definition(name), load_config(problem=name)
    space, contents = _contents(definition, config)
    value = {
        "name": name,
        "scenario": definition.scenario,
        **contents,
        "reference_point": {objective["name"]: objective["worst"] for objective in contents["objectives"]},
        "genes": space.describe(),
        "config": config.model_dump(mode="json"),
    }
    output.result(value, *_tables(config, space, contents), heading=output.wrapped(definition.scenario))
    output.next_step("evorec", "search", "--problem", name)
    output.next_step("evorec", "validate", "--problem", name, "--keys")


def _first_line(name: str) -> str:
    """First line of the scenario; a problem that cannot be loaded shows the cause and does not hide the others."""
    from evorec.config import problem_definition

    try:
        return problem_definition(name).scenario.partition("\n")[0]
    except ConfigError as error:
        return str(error)


def _reads_config(definition: ProblemDefinition, config: RunConfig) -> bool:
    """Whether the problem is a recommender on the data of its configuration; other problems are built to be shown."""
    from evorec.config import RecommenderConfig

    return isinstance(config, RecommenderConfig) and getattr(definition.build, "reads_config", False)


def _contents(definition: ProblemDefinition, config: RunConfig) -> tuple[SearchSpace, dict[str, Any]]:
    """The search space, and tasks, features, objectives and constraints as plain JSON."""
    from evorec.config import RecommenderConfig
    from evorec.objectives import find_metric, resolve
    from evorec.problem import load_problem

    contents: dict[str, Any] = {}
    tables: Tables | None = None
    unknown = ""
    if not _reads_config(definition, config):
        problem = load_problem(config)
        space, tables = problem.space, getattr(problem, "tables", None)
        objectives = [asdict(objective) for objective in problem.objectives]
    else:
        from evorec.data.readers import read
        from evorec.data.splits import split
        from evorec.recommender.dataset import encode_tables
        from evorec.recommender.search_space import recommender_space

        assert isinstance(config, RecommenderConfig)
        dataset = None
        try:
            tables = read(config.data)
            dataset = encode_tables(tables, split(tables, config.split), config, fit="train")
        except EvorecError as error:
            unknown = f"known once the data can be read: {error}"
        space = recommender_space(config, dataset, source=definition.name)
        k, kinds = config.k, config.tasks.kind_of_each()
        boxes = {resolve(name, k, tasks=kinds): box for name, box in config.box.items()}
        objectives = []
        for name in config.objectives:
            info = find_metric(metric := resolve(name, k, tasks=kinds))
            row = {key: getattr(info, key) for key in ("direction", "unit", "ideal", "worst", "log10", "text")}
            box = boxes[metric].model_dump() if metric in boxes else {}
            objectives.append({"name": name, "metric": metric, **row, **box})
    if isinstance(config, RecommenderConfig):
        contents = {"tasks": config.tasks.describe(), "target": config.tasks.target, "features": unknown}
        if tables is not None:
            contents["features"] = {
                "user": [feature.name for feature in tables.user_features],
                "item": [feature.name for feature in tables.item_features],
                "context": [feature.name for feature in tables.context],
                "content": list(dict.fromkeys((*tables.content, *config.data.content))),
            }
    return space, {**contents, "objectives": objectives, "constraints": list(config.constraints)}


def _tables(config: RunConfig, space: SearchSpace, contents: Mapping[str, Any]) -> list[Table]:
    """The same for a terminal."""
    from evorec.config import RecommenderConfig
    from evorec.models.spec import is_of_block
    from evorec.space.genes import Categorical, Fixed

    facts = config.facts()
    if isinstance(config, RecommenderConfig):
        facts["features"] = features = contents["features"]
        if not isinstance(features, str):
            named = "; ".join(f"{side} {show(names)}" for side, names in features.items() if names)
            facts["features"] = ("the genome chooses among " if config.inputs == "search" else "all of ") + named
    tables = [fact_table("\nSettings", facts)]
    if tasks := contents.get("tasks"):
        rows = [
            Row(
                task["name"],
                (
                    task["kind"],
                    task["better"],
                    f"step {task['funnel_step']}" if task["funnel_step"] else "",
                    f"rows with {task['given']}" if task["given"] else "all rows",
                ),
            )
            for task in tasks
        ]
        columns = [Column("kind"), Column("better"), Column("funnel"), Column("learned on")]
        tables.append(Table("\nTasks", "task", tuple(columns), tuple(rows)))
    rows = []
    for entry in contents["objectives"]:
        corners = [FROM_DATA if entry[corner] is None else entry[corner] for corner in ("ideal", "worst")]
        meaning = entry.get("text", "") + (", box on a log scale" if entry["log10"] else "")
        better = {"max": "high", "min": "low"}[entry["direction"]]
        rows.append(Row(entry["name"], (better, entry["unit"], *corners, meaning)))
    columns = [Column("better"), Column("unit"), Column("ideal"), Column("reference point"), Column("meaning")]
    tables.append(Table("\nObjectives", "objective", tuple(columns), tuple(rows)))
    rows = []
    for gene in space.genes:
        if isinstance(gene, Fixed) and is_of_block(gene.name):
            continue  # inputs = "all": the settings name the features
        # Only the last column may be wide: units go there, and the tasks of the weights are in a table of their own.
        domain = re.sub(r"^weights of .* with ", "", gene.domain).replace("(powers of two)", "(2^n)")
        meaning = gene.text
        if unit := getattr(gene, "unit", ""):
            domain, meaning = domain.removesuffix(f" {unit}"), f"{meaning}, in {unit}"
        if isinstance(gene, Categorical):
            domain, meaning = f"{len(gene.options)} options", f"{meaning}: {', '.join(map(show, gene.options))}"
        default = json.dumps(gene.default) if isinstance(gene.default, bool) else gene.default
        rows.append(Row(gene.name, (domain, default, meaning + (f", when {gene.condition}" if gene.condition else ""))))
    tables.append(Table("\nGenes", "gene", (Column("domain"), Column("default"), Column("meaning")), tuple(rows)))
    return tables


@command(
    panel=DEFINE,
    order=20,
    epilog="Every key with its default, range and unit, as a file to start from: evorec validate --keys > my.toml",
    examples=(
        "evorec validate my.toml",
        "evorec validate --problem feed --keys > my.toml",
    ),
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
    from evorec.config import RecommenderConfig, keys, load_config, problem_definition

    if list_keys:
        named = config is not None or problem is not None
        listed = load_config(config, problem=problem, overrides=overrides or []) if named else RecommenderConfig()
        output.result([asdict(key) for key in keys(listed)], text=template(listed))
        return
    settings = load_config(config, problem=problem, overrides=overrides or [])
    source = str(config or f"--problem {problem}")
    definition = problem_definition(settings.problem)
    if isinstance(settings, RecommenderConfig) and _reads_config(definition, settings):
        facts = _check(settings, data=data)
    else:
        facts = _check_built(settings)
    facts = {"problem": settings.problem_name, **facts}
    output.result(facts, fact_table(f"{source} is valid", facts))
    output.next_step("evorec", "search", *config_words(config, problem, overrides))


def template(config: RunConfig) -> str:
    """Every setting as a TOML file with comments; reading it gives `config` again.

    Genes, boxes and sources of content, which have no default, and settings without a value are commented out.
    """
    from evorec.config import keys

    sections: dict[str, list[str]] = {}
    for key in keys(config):
        section, _, name = key.name.rpartition(".")
        line = f"{name} = {key.default}" if key.default else f"# {name} ="
        sections.setdefault(section, []).append(f"# {key.meaning}; {key.expects}\n{line}")
    top = sections.pop("")
    heads = {name: f"# [{name}]" if "<" in name else f"[{name}]" for name in sections}
    return "\n\n".join(["\n".join(top), *(f"{heads[name]}\n" + "\n".join(sections[name]) for name in sections)])


def _check_built(config: RunConfig) -> dict[str, Any]:
    """Facts of a problem that must be built to be checked."""
    from evorec.problem import load_problem
    from evorec.search.checks import check_start

    problem = load_problem(config)
    config = config.sized(problem.device_type)
    check_start(
        config,
        space=problem.space,
        objectives=problem.objectives,
        constraints=problem.constraints,
        data_sha256=problem.data_sha256,
        environment=lambda: problem.environment,
    )
    size = problem.space.cardinality()
    return {
        "data": f"sha256 {problem.data_sha256[:12]}",
        "configurations": f"{size:,.0f}" if size < float("inf") else "infinitely many",
        "objectives": [
            f"{objective.name} ({objective.direction}), box {objective.worst:.4g} to {objective.ideal:.4g}"
            for objective in problem.objectives
        ],
        "constraints": [f"{bound.metric} {bound.op} {bound.bound:.4g}" for bound in problem.constraints] or "none",
        "rungs": list(problem.rungs) or "none",
        **_start_facts(problem.space, config),
        "evaluations": config.search.most_evaluations,
    }


def _start_facts(space: SearchSpace, config: RunConfig) -> dict[str, Any]:
    """The genomes that the search begins with, if any."""
    from evorec.search.start import start_genomes, start_remark

    tables, population = config.search.start, config.search.population
    if not tables:
        return {}
    return {"start": start_remark(space, tables, population) or f"{len(start_genomes(space, tables))} genomes"}


def _check(config: RecommenderConfig, *, data: bool) -> dict[str, Any]:
    """Sizes of the data of a problem that is checked without being built: of each part, and how often labels are 1."""
    from evorec.data.size import DataSize
    from evorec.recommender.checks import check_names, check_problem, device_type
    from evorec.search.checks import check_start

    if not data:
        check_names(config)
        return {"evaluations": config.sized(device_type(config.run.device)).search.most_evaluations}
    found = check_problem(config, test=True)

    def environment() -> dict[str, str]:
        from evorec.recommender.problem import environment_of

        return environment_of(found.config)

    check_start(
        found.config,
        space=found.space,
        objectives=found.objectives,
        constraints=found.constraints,
        data_sha256=found.tables.sha256(),
        environment=environment,
    )
    tables, parts, log = found.tables, found.parts, found.tables.interactions
    size = DataSize.of(tables)
    return {
        "data": f"{size.name}, sha256 {size.sha256[:12]}",
        "rows": size.n_rows,
        **({"users": size.n_users, "items": size.n_items} if size.n_items else {}),
        "rows by part": {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)},
        "label means": {task: log[task].mean() for task in tables.tasks},
        **({"notes": list(found.remarks)} if found.remarks else {}),
        **_start_facts(found.space, found.config),
        "evaluations": found.config.search.most_evaluations,
    }
