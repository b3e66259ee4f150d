"""All refusals of a search, of `finalize` and of `export` that follow from the configuration and the data alone.

`evorec validate` and the recommender problem itself use the same function, so they refuse the same and in the same
words. Nothing is trained, and torch is imported only for a setting that depends on it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from evorec.archive.decide import check_pick
from evorec.config import Faults, RecommenderConfig, TasksConfig
from evorec.data.attack import attack
from evorec.data.dataset import Dataset
from evorec.data.encode import Fit
from evorec.data.groups import users_with
from evorec.data.held_out import HeldOut, ranking_users
from evorec.data.leaks import leaks
from evorec.data.readers import READERS, with_content
from evorec.data.remarks import remarks
from evorec.data.splits import Split, split
from evorec.data.tables import Tables
from evorec.errors import ConfigError, DataError
from evorec.metrics.accuracy import ordering_key
from evorec.metrics.metric import all_metrics
from evorec.models.baselines import NAMES, oversized, skipped_baselines
from evorec.models.boosting import GRADIENT_BOOSTING
from evorec.models.item_item import ITEM_ITEMS
from evorec.models.row_baselines import ROW_BASELINES
from evorec.objectives import (
    Constraint,
    Objective,
    build_objectives,
    check_metrics,
    in_full,
    named_metrics,
    parse_constraint,
    resolve,
    wanted_metrics,
)
from evorec.recommender.dataset import encode_tables
from evorec.recommender.defaults import suitable_defaults, without_metrics
from evorec.recommender.search_space import DEFAULT_MATRIX_BYTES, oversized_kinds, recommender_space
from evorec.space.space import SearchSpace
from evorec.training.memory import memory_budget

if TYPE_CHECKING:
    from evorec.recommender.trainers import StackTrainer

BASELINES: Final = (*NAMES, GRADIENT_BOOSTING)
"""Names that a constraint or a pick may contain."""


def baseline_names(config: RecommenderConfig) -> tuple[str, ...]:
    """Names that a constraint or a pick of a configuration may contain."""
    return ROW_BASELINES if config.of_rows else BASELINES


GPU_FILES: Final = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Linux has none of them where PyTorch could not find a GPU: drivers of NVIDIA, of AMD, and of Windows below it."""
Corners = dict[str, tuple[float, float]]


@final
@dataclass(frozen=True, eq=False)
class CheckedProblem:
    """A configuration and its data that can be searched, finalized and exported.

    Attributes:
        config: without defaults of the problem that the data cannot have.
        tables: with the vectors of ``data.content``.
        parts: row numbers of training, validation and test.
        dataset: training and validation, encoded.
        space: of the genomes.
        objectives: of the search; corners of counted costs may be made up.
        constraints: of the search; bounds by a baseline are made up.
        remarks: sentences for people: what the data do not allow, which defaults were left out, and which features give
            a label away.
    """

    config: RecommenderConfig
    tables: Tables
    parts: Split
    dataset: Dataset
    space: SearchSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    remarks: tuple[str, ...]


def check_problem(config: RecommenderConfig, tables: Tables | None = None, *, test: bool = False) -> CheckedProblem:
    """Check a configuration with its data.

    Args:
        config: of the run.
        tables: all interactions; ``None`` = read from ``config.data``. They get the vectors that it names.
        test: whether the test part is checked too (`check_test`), as before the first start of a search. After other
            errors it always is, so that a refusal lists everything.
    Raises:
        ConfigError, DataError: lists the errors of all checks that do not need the result of a failed one.
    """
    faults, notes = Faults(config.origins), list[str]()
    with faults.collect():
        _check_device(config)
        config = config.sized(device_type(config.run.device))
    parts: Split | None = None
    n_faults = len(faults.lines)
    with faults.collect():
        if tables is None:
            tables, _ = READERS[config.data.reader].read(config.data)
        config, notes = suitable_defaults(config, tables)
    if tables is not None:
        with faults.collect():
            tables = with_content(tables, config.data)
        with faults.collect():
            _check_tasks(config.tasks, tables)
        with faults.collect():
            parts = split(tables, config.split)
    is_readable = len(faults.lines) == n_faults
    with faults.collect():
        check_metrics(config)
    if tables is None or parts is None or not is_readable:
        _check_names(config, faults)
        faults.refuse()
    assert tables is not None
    assert parts is not None

    column, dataset, held_out = config.evaluation.groups, None, None
    with faults.collect():
        if column:
            users_with(column, tables)
            column = ""
    if not column:
        with faults.collect():
            dataset = encode_tables(tables, parts, config, fit="train")
            held_out, config = _measured(dataset, config, notes)
    if dataset is None or held_out is None:
        _check_names(config, faults)
        faults.refuse()
    assert dataset is not None
    assert held_out is not None

    reasons = _unavailable(held_out, config)
    _check_metrics_of_part(held_out, config, faults, "", reasons)
    if held_out.needs_attack:
        if config.training.inherit != "none":
            faults.add(
                ConfigError(
                    f'training.inherit must be "none" with metrics of an attack, got "{config.training.inherit}": the '
                    "attacked data have other users, so a member has no weights there to inherit."
                )
            )
        fits: tuple[Fit, ...] = ("train", "train+validation")
        for fit in fits:
            with faults.collect():
                attack(tables, parts, config.evaluation.attack, fit=fit, target=config.tasks.target)
    space: SearchSpace | None = None
    objectives: tuple[Objective, ...] = ()
    with faults.collect():
        space = recommender_space(config, dataset)
    if space is not None:
        with faults.collect():
            corners = held_out.all_corners() | _cost_corners(space, config, tables, dataset)
            kinds = config.tasks.kind_of_each()
            objectives = build_objectives(
                config.objectives, k=config.k, box=config.box, cost_bounds=corners, tasks=kinds
            )
    budget = memory_budget(config.run.memory_gib)
    without, keys = skipped_baselines(dataset, budget), {*held_out.baseline_keys(), *held_out.unavailable}
    of_lists = NAMES if dataset.has_items else tuple(name for name in ROW_BASELINES if name != GRADIENT_BOOSTING)
    known = {name: dict.fromkeys(keys, 1.0) for name in of_lists if name not in without}
    if config.finalize.boosting and dataset.tasks:
        orders = [ordering_key(task, kind) for task, kind in zip(dataset.tasks, dataset.kinds, strict=True)]
        known[GRADIENT_BOOSTING] = dict.fromkeys((*orders, "accuracy"), 1.0)
    constraints = _check_constraints_and_picks(config, faults, known)
    if space is not None:
        with faults.collect():
            workers = config.run.n_workers(device_type(config.run.device))
            of_worker = memory_budget(config.run.memory_gib, workers=workers)
            for reason in oversized_kinds(space, dataset, of_worker).values():
                faults.add(ConfigError(f"space.item_item: {reason}"))
    if space is not None and config.run.memory_gib:
        with faults.collect():
            _trainer(config, tables, dataset).check_memory(space)
    if test or faults:
        with faults.collect():
            check_test(config, tables, parts, held_out)
    faults.refuse()
    assert space is not None
    notes += [f"{name} is left out of the baselines: {reason}." for name, reason in oversized(dataset, budget).items()]
    if "item_item" not in config.space:
        notes += [
            f"space.item_item: {kind} is left out, because it takes more than {DEFAULT_MATRIX_BYTES / 2**30:g} GiB; "
            "name it in space.item_item to have it."
            for kind in ITEM_ITEMS
            if "item_item" in space.names and not space.gene("item_item").can_be(kind)
        ]
    notes += [f"{leak}." for leak in leaks(tables, parts.train, (*config.tasks.ranked, config.tasks.target))]
    return CheckedProblem(
        config, tables, parts, dataset, space, objectives, constraints, (*remarks(tables, config), *notes)
    )


def check_test(config: RecommenderConfig, tables: Tables, parts: Split, held_out: HeldOut) -> None:
    """Check that `finalize` could measure the test part.

    Only its rows and labels are counted: whether each task and metric can be measured there.

    Args:
        config: of the run.
        tables: all interactions.
        parts: row numbers of training, validation and test.
        held_out: the validation part; its reasons are not repeated.
    Raises:
        ConfigError, DataError: lists all errors.
    """
    faults, reasons = Faults(config.origins), _unavailable(held_out, config)
    with faults.collect():
        test = _test_part(tables, parts, config)
        further = {name: why for name, why in _unavailable(test, config).items() if name not in reasons}
        _check_metrics_of_part(test, config, faults, "of the test part, ", further)
    faults.refuse()


def check_names(config: RecommenderConfig) -> None:
    """Check a configuration without its data: everything that it names exists, as far as the data do not decide it.

    Raises:
        ConfigError: lists all errors.
    """
    faults = Faults(config.origins)
    for check in (_check_device, check_metrics):
        with faults.collect():
            check(config)
    _check_names(config, faults)
    faults.refuse()


def device_type(name: str) -> str:
    """``cpu`` or ``cuda`` for ``run.device``."""
    if name == "cpu" or (
        name == "auto" and sys.platform == "linux" and not any(Path(file).exists() for file in GPU_FILES)
    ):
        return "cpu"  # without the second that importing torch takes
    from evorec.training.trainer import resolve_device

    return resolve_device(name).type


def _check_device(config: RecommenderConfig) -> None:
    if config.run.device in ("auto", "cpu") and config.training.precision != "bfloat16":
        return
    from evorec.training.precision import resolve_precision
    from evorec.training.trainer import resolve_device

    resolve_precision(config.training.precision, resolve_device(config.run.device))


def _check_tasks(tasks: TasksConfig, tables: Tables) -> None:
    targets = (tasks.target,) if tasks.target or tables.has_items else ()
    named = {"ranked": tasks.ranked, "target": targets, "given": tuple(tasks.given.values())}
    known = ", ".join(tables.tasks)
    wrong = [
        f"tasks.{key} must name label columns of {tables.name}, {known}; got {name!r}."
        for key, names in named.items()
        for name in names
        if name not in tables.tasks
    ]
    if wrong:
        raise ConfigError("\n".join(wrong))


def _check_names(config: RecommenderConfig, faults: Faults) -> None:
    """The checks that do without data; corners and baselines are made up."""
    k, tasks = config.k, config.tasks.kind_of_each()
    corners = _made_up_corners(config)
    with faults.collect():
        build_objectives(config.objectives, k=k, box=config.box, cost_bounds=corners, tasks=tasks)
    with faults.collect():
        recommender_space(config, None)
    values = {metric.key(k=k): 1.0 for metric in all_metrics() if metric.has_baselines}
    if config.of_rows:
        values = {metric.key(task=task): 1.0 for metric in all_metrics() for task in tasks}
    known = dict.fromkeys(ROW_BASELINES if config.of_rows else NAMES, values)
    known[GRADIENT_BOOSTING] = dict.fromkeys((*(ordering_key(*task) for task in tasks.items()), "accuracy"), 1.0)
    _check_constraints_and_picks(config, faults, known)


def _check_constraints_and_picks(
    config: RecommenderConfig, faults: Faults, baselines: Mapping[str, Mapping[str, float]]
) -> tuple[Constraint, ...]:
    """The constraints, with bounds by made-up baselines."""
    constraints = []
    k, tasks = config.k, config.tasks.kind_of_each()
    for text in config.constraints:
        with faults.collect("constraints: "):
            constraints.append(parse_constraint(text, k=k, baselines=baselines, tasks=tasks))
    for text in config.finalize.picks:
        with faults.collect():
            check_pick(text, (), k, tasks=tasks, baselines=baseline_names(config))
    return tuple(constraints)


def _made_up_corners(config: RecommenderConfig) -> Corners:
    return {
        metric.key(k=config.k, task=task): (1.0, 10.0) if metric.direction == "min" else (10.0, 1.0)
        for metric in all_metrics()
        for task in config.tasks.ranked or ("",)
        if metric.ideal is None
    }


def _cost_corners(space: SearchSpace, config: RecommenderConfig, tables: Tables, dataset: Dataset) -> Corners:
    """Corners of the counted costs; made up where the costs certainly differ, because to count them needs torch."""
    of_data = {metric.name for metric in all_metrics() if metric.corners is not None}
    made_up = {
        key: corners
        for key, corners in _made_up_corners(config).items()
        if not any(name.partition("/")[0] == key.partition("/")[0] for name in of_data)
    }
    # Item-item scores alone cost the same with vectors of any length.
    has_vectors = "item_item" not in space.names or space.gene("item_item").can_be("none")
    if space.gene("embedding_dim").cardinality > 1 and has_vectors:
        return made_up
    from evorec.training.cost import cost_bounds

    return made_up | cost_bounds(space, _trainer(config, tables, dataset, at_most=1).cost)


def _trainer(
    config: RecommenderConfig, tables: Tables, dataset: Dataset, *, at_most: int | None = None
) -> StackTrainer:
    """The trainer of the search; imports torch."""
    from evorec.recommender.trainers import StackTrainer

    at_most = at_most or config.evaluation.max_users
    return StackTrainer.of(tables, config, fit="train", seed=config.search.seed, at_most=at_most, dataset=dataset)


def _measured(dataset: Dataset, config: RecommenderConfig, notes: list[str]) -> tuple[HeldOut, RecommenderConfig]:
    """The held-out part, and the configuration without default metrics that it cannot have."""
    users = ranking_users(dataset, config.evaluation, seed=config.search.seed, at_most=config.evaluation.max_users)
    found = HeldOut(dataset, config.evaluation, users, wanted=wanted_metrics(config))
    changed = without_metrics(config, _unavailable(found, config), notes)
    if changed is not config:
        found = HeldOut(dataset, config.evaluation, users, wanted=wanted_metrics(changed))
    return found, changed


def _unavailable(held_out: HeldOut, config: RecommenderConfig) -> dict[str, str]:
    """Every metric that the configuration names and the data cannot have, by its name there -> the reason."""
    found = {}
    for name in named_metrics((*config.objectives, *config.constraints, *config.box, *config.finalize.picks)):
        with suppress(ConfigError):
            key = resolve(in_full(name), config.k)
            if key in held_out.unavailable:
                found[name] = f"{key} {held_out.unavailable[key]}"
    return found


def _test_part(tables: Tables, parts: Split, config: RecommenderConfig) -> HeldOut:
    """The test part; without statistics and learned content, which more rows cannot make impossible."""
    data = config.data.model_copy(update={"statistics": (), "content": {}})
    plain = config.model_copy(update={"data": data})
    dataset = encode_tables(tables, parts, plain, fit="train+validation")
    try:
        users = ranking_users(dataset, config.evaluation, seed=0, at_most=None)
    except DataError as error:
        raise DataError(str(error).replace("held-out", "test")) from None
    return HeldOut(dataset, config.evaluation, users, wanted=wanted_metrics(config))


def _check_metrics_of_part(
    held_out: HeldOut, config: RecommenderConfig, faults: Faults, part: str, reasons: Mapping[str, str]
) -> None:
    """Refuse metrics that a held-out part cannot have.

    Args:
        held_out: the part.
        config: of the run.
        faults: collects the errors.
        part: its name in messages.
        reasons: name of a metric -> why no model can have it.
    """
    named = {
        "objectives": config.objectives,
        "constraints": config.constraints,
        "finalize.picks": config.finalize.picks,
    }
    for key, texts in named.items():
        for name in named_metrics(texts):
            if name in reasons:
                faults.add(DataError(f"{key}: {part}{reasons[name]}"))
    if held_out.dataset.has_items and (held_out.users.masked.counts() >= held_out.dataset.n_items).all():
        faults.add(
            DataError(
                f"evaluation.mask: {part}all lists would be empty: every user has met the whole catalogue in training; "
                'bring more items, or set evaluation.mask = "positives".'
            )
        )
