"""Formulas for a member of a run: evolved on one half of the validation users, judged on the other, stored in the run.

`fuse` writes ``RUN/fusion/<member>.json``. The member's weights are those of the search, trained on the training part
alone; nothing is trained, and no test row is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from evorec.archive.indicators import hypervolume_share, normalised
from evorec.archive.pareto import non_dominated
from evorec.config import FuseConfig
from evorec.deploy.final.finalize import check_finished
from evorec.deploy.fusion.choice import SIZE, best_of_front
from evorec.deploy.fusion.formula import Formula, member_formula
from evorec.deploy.fusion.formula_scores import FormulaScorer, fusion_objectives
from evorec.deploy.fusion.head_outputs import HeadOutputs, head_outputs, task_positives
from evorec.errors import RunError
from evorec.models.spec import ModelSpec
from evorec.objectives import Objective
from evorec.rec_problem import Fitted, RecProblem
from evorec.run.directory import RunDirectory
from evorec.seeds import child_seed, generator
from evorec.training.evaluate import ranking_users

if TYPE_CHECKING:
    from evorec.deploy.fusion.evolution import Candidate

SWEEP: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Weights of re-ranking that the member's own score is tried with."""
FEWEST_USERS: Final = 20
METHODS: Final = ("member", "member + mmr", "weighted sum", "weighted product", "evolved")


@final
@dataclass(frozen=True)
class Halves:
    """The cached outputs of one member, once for each half of the users.

    Attributes:
        fitting, validation: scorers of the halves.
        n_users: of each.
        left_out: ranked binary tasks without a held-out positive in one of the halves.
        outputs: of all of them.
        own: the member's own list score.
        signs: 1 or -1 for each ranked task.
    """

    fitting: FormulaScorer
    validation: FormulaScorer
    n_users: tuple[int, int]
    left_out: tuple[str, ...]
    outputs: HeadOutputs
    own: Formula
    signs: tuple[int, ...]


def halves(fitted: Fitted, spec: ModelSpec, weights: Mapping[str, Any], config: FuseConfig) -> Halves:
    """Runs the member once on a seeded sample of validation users, and divides them.

    Args:
        fitted: the fit that the member was trained on.
        spec, weights: the member.
        config: `max_users` and `seed`.
    Raises:
        RunError: there are too few users, or the member's scores are not finite.
    """
    dataset, k = fitted.dataset, fitted.config.evaluation.k
    users = ranking_users(dataset, fitted.config.evaluation, seed=config.seed, at_most=config.max_users)
    if len(users.ids) < FEWEST_USERS:
        raise RunError(
            f"fusing needs {FEWEST_USERS} validation users with a positive of {dataset.target}, to fit formulas on one "
            f"half and judge them on the other; there are {len(users.ids)}"
        )
    outputs = head_outputs(fitted, spec, weights, users)
    order = generator(config.seed, "fusion halves").permutation(len(users.ids))
    parts = [np.sort(part) for part in np.array_split(order, 2)]
    positives = [task_positives(dataset, users.ids[part]) for part in parts]
    common = [task for task in dataset.tasks if all(task in some for some in positives)]
    binary = [task for task, kind in zip(dataset.tasks, dataset.kinds, strict=True) if kind == "binary"]

    def scorer(part: Any, some: Mapping[str, Any]) -> FormulaScorer:
        return FormulaScorer(
            outputs.select(part),
            target=users.relevant.select(part),
            others={task: some[task] for task in common},
            content=dataset.distance_content,
            n_items=dataset.n_items,
            k=k,
        )

    return Halves(
        scorer(parts[0], positives[0]),
        scorer(parts[1], positives[1]),
        (len(parts[0]), len(parts[1])),
        tuple(task for task in binary if task not in common and task != dataset.target),
        outputs,
        member_formula(spec, dataset.tasks, dataset.signs),
        dataset.signs,
    )


def fuse(
    run: RunDirectory,
    problem: RecProblem,
    member: str,
    config: FuseConfig,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Evolves formulas for one member and writes them into the run.

    Args:
        run: a finished search, open for writing.
        problem: the problem it searched.
        member: key of an archive member.
        config: of the evolution.
        progress: told what goes on, one line each.
    Returns:
        What ``fusion/<member>.json`` holds: the kept formulas with their metrics on both halves, the baselines at the
        same number of evaluations, and the hypervolume of each method's front on the validation half.
    Raises:
        RunError: the search is not finished or belongs to another problem, there is no such member, or too few users.
        ConfigError: an objective is not measured.
    """
    check_finished(run, problem)
    weights = run.read_weights(member)
    evaluation = next(one for one in run.ledger.evaluations() if one.key == member)
    spec = ModelSpec.from_genes(evaluation.spec)
    progress(f"{member}: computing head outputs of up to {config.max_users} validation users")
    found = halves(problem.fitted, spec, weights, config)
    objectives = fusion_objectives(config.objectives, found.fitting, config.max_size)
    progress(f"{member}: evolving formulas for {', '.join(one.name for one in objectives)}")
    fronts, n_evaluated = evolved_fronts(found, objectives, config)
    report = {
        "member": member,
        "settings": config.model_dump(mode="json"),
        "seed": config.seed,
        "halves": {
            "fitting": found.n_users[0],
            "validation": found.n_users[1],
            "of_task": {task: _n_users(found, task) for task in found.fitting.tasks},
            "left_out": list(found.left_out),
        },
        "k": found.fitting.k,
        "tasks": list(found.outputs.tasks),
        "diversity": found.fitting.diversity,
        "objectives": [_described(one) for one in objectives],
        "evaluations": n_evaluated,
        **_measured(found, objectives, fronts, config.keep),
    }
    return run.write_fusion(member, report)


Fronts = Mapping[str, Sequence["Candidate[Any]"]]


def evolved_fronts(
    found: Halves, objectives: Sequence[Objective], config: FuseConfig
) -> tuple[dict[str, tuple[Candidate[Any], ...]], int]:
    """Fronts of trees, weighted sums and weighted products, each from the same number of evaluations.

    Args:
        found: of the member.
        objectives: M objectives.
        config: of the evolution.
    Returns:
        The fronts on the fitting half by method, and the evaluations of each.
    """
    from evorec.deploy.fusion.evolution import TreeLanguage, evolve
    from evorec.deploy.fusion.languages import Language, WeightedLanguage

    tasks, is_binary = found.outputs.tasks, found.outputs.is_binary
    total = WeightedLanguage("sum", tasks, is_binary, found.signs)
    product = WeightedLanguage("product", tasks, is_binary, found.signs)
    seeds = [found.own, *(one.formula(genome) for one in (total, product) for genome in one.seeds())]
    trees = TreeLanguage(
        tasks, is_binary, max_size=config.max_size, seeds=list(dict.fromkeys(seeds)), starters=(total, product)
    )
    budget = config.population * config.generations + config.tuning
    out: dict[str, tuple[Candidate[Any], ...]] = {}
    languages: dict[str, Language[Any]] = {"evolved": trees, "weighted sum": total, "weighted product": product}
    for name, language in languages.items():
        done = evolve(
            language,
            found.fitting,
            objectives,
            population=config.population,
            budget=budget,
            tuning=config.tuning,
            mmr=config.mmr,
            seed=child_seed(config.seed, name),
        )
        out[name] = done.front
        spent = done.n_evaluated
    return out, spent


def _measured(found: Halves, objectives: Sequence[Objective], fronts: Fronts, keep: int) -> dict[str, Any]:
    """Formulas, baselines and hypervolumes, on both halves."""
    own = [_row(found, found.own, weight) for weight in SWEEP if weight == 0 or found.fitting.has_content]
    rows = {name: [_row(found, one.formula, one.mmr) for one in front] for name, front in fronts.items()}
    rows |= {"member": own[:1], "member + mmr": own}
    everything = [dict(row, origin=name) for name in ("evolved", *METHODS[:-1]) for row in rows[name]]
    kept = _thinned(everything, objectives, keep)
    metric = next((one.metric for one in objectives if one.metric != SIZE), SIZE)
    kept.sort(key=lambda row: (-row["fitted"][metric], row["size"], row["text"], row["mmr"]))
    mask = non_dominated(normalised([row["validation"] for row in kept], objectives))
    formulas = [
        {"id": f"f{number}", **row, "non_dominated": bool(best)}
        for number, (row, best) in enumerate(zip(kept, mask, strict=True), start=1)
    ]
    baselines = {name: _thinned(rows[name], objectives, keep) for name in METHODS[:-1]}
    shares = {name: hypervolumes(rows[name], objectives) for name in METHODS}
    shares["kept"] = hypervolumes(kept, objectives)
    return {"formulas": formulas, "baselines": baselines, "hypervolume": shares}


def hypervolumes(rows: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]) -> dict[str, float]:
    """Share of the box on either half, of all objectives but the size of the formula."""
    axes = [one for one in objectives if one.metric != SIZE]
    return {half: hypervolume_share([row[half] for row in rows], axes) for half in ("fitted", "validation")}


def _row(found: Halves, formula: Formula, mmr: float) -> dict[str, Any]:
    """A formula with its metrics on both halves."""
    measured = {
        half: scorer.metrics(scorer.positions(formula, mmr)) | {SIZE: float(formula.size)}
        for half, scorer in (("fitted", found.fitting), ("validation", found.validation))
    }
    return {"text": formula.text, "mmr": mmr, "size": formula.size, **measured}


def _thinned(rows: Sequence[dict[str, Any]], objectives: Sequence[Objective], keep: int) -> list[dict[str, Any]]:
    """At most `keep` rows of the front on the fitting half."""
    return [rows[at] for at in best_of_front([row["fitted"] for row in rows], objectives, keep)]


def _n_users(found: Halves, task: str) -> list[int]:
    """Users with a held-out positive of a task, in either half."""
    return [half.n_users_of(task) for half in (found.fitting, found.validation)]


def _described(one: Objective) -> dict[str, Any]:
    return {"metric": one.metric, "direction": one.direction, "ideal": one.ideal, "worst": one.worst}
