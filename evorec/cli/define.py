"""Commands about configurations, before anything is run: problems, validate."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evorec.cli.app import DEFINE, Config, Overrides, ProblemName, app
from evorec.cli.output import Format, Output, command
from evorec.cli.problems import configure, known_problems, problem_module, scenario
from evorec.config import RunConfig, TasksConfig, keys, load_config, task_in_words
from evorec.errors import ConfigError
from evorec.report.tables import Column, Row, Table, show

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evorec.config import TaskKind
    from evorec.data.tables import Tables
    from evorec.space.space import SearchSpace

BASELINES = ("popularity", "item_knn", "ease")
"""What a constraint may name."""


@command(app, rich_help_panel=DEFINE)
def problems(
    output: Output,
    name: Annotated[str | None, typer.Argument(help="Problem to describe.", show_default=False)] = None,
) -> None:
    """List the installed problem definitions, or describe one."""
    if name is not None:
        _describe(output, name)
        return
    lines = {known: _first_line(known) for known in known_problems()}
    rows = tuple(Row(known, (line,)) for known, line in lines.items())
    output.result(lines, Table("Problems", "name", (Column("scenario"),), rows))
    output.next_step("evorec search --problem NAME")


def _first_line(name: str) -> str:
    """What a problem is about; one that cannot be loaded says why and does not hide the others."""
    try:
        return scenario(problem_module(name)).partition("\n")[0]
    except ConfigError as error:
        return str(error)


def _describe(output: Output, name: str) -> None:
    module = problem_module(name)
    config = load_config(defaults=module.DEFAULTS, source=module.__name__)
    genes = _gene_table(config, module.__name__)
    value = {
        "name": name,
        "scenario": scenario(module),
        "genes": [asdict(info) for info in _space(config, None, module.__name__).describe()],
        "config": config.model_dump(mode="json"),
    }
    output.result(value, text=output.wrapped(scenario(module)))
    if output.form is Format.TABLE:
        output.result(value, _settings_table(config), genes)
    output.next_step(f"evorec search --problem {name}", f"evorec validate --problem {name} --keys")


@command(
    app,
    rich_help_panel=DEFINE,
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
        listed = configure(config, problem, overrides or []) if named else RunConfig()
        output.result([asdict(key) for key in keys(listed)], text=template(listed))
        return
    settings = configure(config, problem, overrides or [])
    source = str(config or f"--problem {problem}")
    tables, facts = _read(settings) if data else (None, {})
    _check_names(settings, tables, source)
    facts = {
        "problem": settings.problem,
        **facts,
        "evaluations": settings.search.population * settings.search.generations,
    }
    rows = tuple(Row(name, (value,)) for name, value in facts.items())
    output.result(facts, Table(f"{source} is valid", "", (Column(""),), rows))
    output.next_step(f"evorec search {config}" if config else f"evorec search --problem {problem}")


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


def _read(config: RunConfig) -> tuple[Tables, dict[str, Any]]:
    """The data set and what a person checks first: its size, part by part, and how often each label is 1."""
    from evorec.data.readers import read
    from evorec.data.splits import split
    from evorec.data.tables import Columns

    tables = read(config.data)
    parts = split(tables, config.split)
    log = tables.interactions
    return tables, {
        "data": f"{tables.name}, sha256 {tables.sha256()[:12]}",
        "rows": tables.n_rows,
        "users": log[Columns.USER].n_unique(),
        "items": log[Columns.ITEM].n_unique() if tables.items is None else tables.items.height,
        "rows by part": {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)},
        "label means": {task: log[task].mean() for task in tables.tasks},
    }


def _check_names(config: RunConfig, tables: Tables | None, source: str) -> None:
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


def _check_objectives(config: RunConfig, tasks: Mapping[str, TaskKind] | None) -> None:
    from evorec.objectives import CATALOGUE, build_objectives

    k = config.evaluation.k
    costs = {
        name.replace("<task>", task): (1.0, 10.0)
        for name, info in CATALOGUE.items()
        for task in tasks or ("",)
        if info.ideal is None
    }  # only their names matter here
    build_objectives(config.objectives, k=k, box=config.box, cost_bounds=costs, tasks=tasks)


def _check_pick(text: str, config: RunConfig, tasks: Mapping[str, TaskKind] | None) -> None:
    from evorec.archive.decide import check_pick

    check_pick(text, (), config.evaluation.k, tasks=tasks)


def _check_constraint(text: str, config: RunConfig, tasks: Mapping[str, TaskKind] | None) -> None:
    from evorec.objectives import CATALOGUE, parse_constraint, resolve

    k = config.evaluation.k
    measured = {resolve(name, k): 1.0 for name in CATALOGUE if name.endswith("@k")}  # of a baseline
    parse_constraint(text, k=k, baselines=dict.fromkeys(BASELINES, measured), tasks=tasks)


def _space(config: RunConfig, tables: Tables | None, source: str) -> SearchSpace:
    """The search space; without the data, tasks and lengths of time stand for themselves only."""
    from evorec.models.blocks import declared_blocks, named_blocks
    from evorec.models.spec import default_space

    tasks = config.tasks.ranked or (tables.tasks if tables else ("task",))
    days = _n_days(tables) if tables else 14.0
    space = default_space(
        tasks,
        n_layers=config.training.layers,
        days=days,
        funnel=bool(config.tasks.funnel),
        uniform_negatives=config.training.uniform_negatives,
        retrieval_batch=config.training.retrieval_batch,
        blocks=declared_blocks(tables, config.data.content) if tables else named_blocks(config.space),
        search_blocks=config.inputs == "search",
    )
    return space.with_overrides(config.space, source)


def _n_days(tables: Tables) -> float:
    from evorec.data.tables import Columns

    time = tables.interactions[Columns.TIME].to_numpy()
    return float(time.max() - time.min()) / 86_400


def _settings_table(config: RunConfig) -> Table:
    """What a problem asks for, as long as nothing else is set."""
    search, measured = config.search, config.evaluation
    facts = {
        "data": config.data.reader + (f", {config.data.path}" if config.data.path else ""),
        "split": config.split.kind,
        "tasks": [task_in_words(task, kind) for task, kind in config.tasks.kind_of_each().items()],
        "target": config.tasks.target,
        "lists": f"k = {measured.k} items out of {measured.candidates} candidates",
        "objectives": config.objectives,
        "constraints": config.constraints or "none",
        "budget": f"{search.population} x {search.generations} trainings of {config.training.steps} steps",
    }
    return Table("\nSettings", "", (Column(""),), tuple(Row(name, (fact,)) for name, fact in facts.items()))


def _gene_table(config: RunConfig, source: str) -> Table:
    """What evolves; `GeneInfo` is the long form, and only meanings may be too wide for a terminal."""
    from evorec.space.genes import Categorical

    space = _space(config, None, source)
    rows = []
    for info in space.describe():
        gene = space.gene(info.name)
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
