"""Formulas for a member of a run: evolved on half of the validation users and measured on the other half.

`fuse` writes ``RUN/fusion/<member>.json``. The member's weights are those of the search, trained on the training part
only; nothing is trained, and no test row is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from evorec.archive.indicators import hypervolume_share, normalised
from evorec.archive.pareto import non_dominated
from evorec.config import FuseConfig
from evorec.data.held_out import ranking_users
from evorec.deploy.fusion.evolution import Candidate, Evolution, best_of_front
from evorec.deploy.fusion.formula import SIZE, Formula, member_formula
from evorec.deploy.fusion.head_outputs import HeadOutputs, head_outputs, task_positives
from evorec.deploy.fusion.languages import Language, WeightedLanguage
from evorec.deploy.fusion.scorer import SIMILARITY_BYTES, FormulaScorer, fusion_objectives
from evorec.deploy.fusion.trees import TreeLanguage
from evorec.deploy.runs import check_finished
from evorec.errors import RunError
from evorec.models.spec import ModelSpec
from evorec.objectives import Objective
from evorec.recommender.encoding import EncodedData
from evorec.recommender.problem import RecProblem
from evorec.run.directory import RunDirectory
from evorec.seeds import child_seed, generator
from evorec.training.memory import memory_budget

MMR_WEIGHTS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Weights of re-ranking that are tried with the member's own score."""
SIMILARITY_SHARE: Final = 0.5
"""Share of the memory of the run for the cosines of both halves; the rest is for the member and its outputs."""
FEWEST_USERS: Final = 20
BASELINES: Final = ("member", "member + mmr", "weighted sum", "weighted product")


@final
@dataclass(frozen=True)
class UserHalves:
    """The cached outputs of a member for two halves of the users.

    Attributes:
        fitting, validation: scorers of the halves.
        outputs: of all users.
        own: the member's own list score.
        signs: 1 or -1 for each ranked task.
    """

    fitting: FormulaScorer
    validation: FormulaScorer
    outputs: HeadOutputs
    own: Formula
    signs: tuple[int, ...]

    def row(self, formula: Formula, mmr: float) -> dict[str, Any]:
        """A formula with its metrics on both halves."""
        measured = {
            half: scorer.metrics(scorer.positions(formula, mmr)) | {SIZE: float(formula.size)}
            for half, scorer in (("fitted", self.fitting), ("validation", self.validation))
        }
        return {"text": formula.text, "mmr": mmr, "size": formula.size, **measured}


def user_halves(encoded: EncodedData, spec: ModelSpec, weights: Mapping[str, Any], config: FuseConfig) -> UserHalves:
    """Run the member once on a seeded sample of validation users, and divide the users.

    Args:
        encoded: the data that the member was trained on.
        spec, weights: the member.
        config: `max_users` and `seed`.
    Raises:
        RunError: there are too few users, or the member's scores are not finite.
    """
    dataset = encoded.dataset
    if not dataset.has_items:
        raise RunError("fusing makes the score of lists, and a table of rows has no items to list")
    if not dataset.tasks:
        raise RunError("fusing combines retrieval with the ranker, and this run ranks no task (tasks.ranked = [])")
    users = ranking_users(dataset, encoded.config.evaluation, seed=config.seed, at_most=config.max_users)
    if len(users.ids) < FEWEST_USERS:
        raise RunError(
            f"fusing needs {FEWEST_USERS} validation users with a positive of {dataset.target}, to fit formulas on "
            f"half of them and measure them on the others; there are {len(users.ids)}"
        )
    outputs = head_outputs(encoded, spec, weights, users)
    order = generator(config.seed, "fusion halves").permutation(len(users.ids))
    parts = [np.sort(part) for part in np.array_split(order, 2)]
    positives = [task_positives(dataset, users.ids[part]) for part in parts]
    common = [task for task in dataset.tasks if all(task in some for some in positives)]
    room = int(memory_budget(encoded.config.run.memory_gib) * SIMILARITY_SHARE / len(parts))
    fitting, validation = (
        FormulaScorer(
            outputs.select(part),
            target=users.relevant.select(part),
            others={task: some[task] for task in common},
            content=dataset.distance_content,
            n_items=dataset.n_items,
            k=encoded.config.evaluation.k,
            similarity_bytes=min(SIMILARITY_BYTES, room),
        )
        for part, some in zip(parts, positives, strict=True)
    )
    own = member_formula(spec, dataset.tasks, dataset.signs)
    return UserHalves(fitting, validation, outputs, own, dataset.signs)


def fuse(
    run: RunDirectory,
    problem: RecProblem,
    member: str,
    config: FuseConfig,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Evolve formulas for a member and write them into the run.

    Args:
        run: a finished search, open for writing.
        problem: the problem it searched.
        member: key of an archive member.
        config: of the evolution.
        progress: called with a line of text per step.
    Returns:
        The content of ``fusion/<member>.json``: the kept formulas with their metrics on both halves, the baselines at
        the same number of evaluations, and the hypervolume of each method's front on the validation half.
    Raises:
        RunError: the search is not finished or belongs to another problem, the member is unknown, or too few users.
        ConfigError: an objective is not measured.
    """
    check_finished(run, problem)
    weights = run.read_weights(member)
    genes = next(evaluation.spec for evaluation in run.ledger.evaluations() if evaluation.key == member)
    progress(f"{member}: computing head outputs of up to {config.max_users} validation users")
    halves = user_halves(problem.data, ModelSpec.from_genes(genes), weights, config)
    scorers, outputs = (halves.fitting, halves.validation), halves.outputs
    measured = (problem.data.dataset.target, *halves.fitting.tasks)
    objectives = fusion_objectives(config.objectives, halves.fitting, config.max_size)
    progress(f"{member}: evolving formulas for {', '.join(objective.name for objective in objectives)}")
    fronts, n_evaluated = evolved_fronts(halves, objectives, config)
    report = {
        "member": member,
        "settings": config.model_dump(mode="json"),
        "seed": config.seed,
        "halves": {
            "fitting": halves.fitting.n_users_of(),
            "validation": halves.validation.n_users_of(),
            "of_task": {task: [scorer.n_users_of(task) for scorer in scorers] for task in halves.fitting.tasks},
            "left_out": [  # binary tasks without a held-out positive in either half
                task
                for task, binary in zip(outputs.tasks, outputs.is_binary, strict=True)
                if binary and task not in measured
            ],
        },
        "k": halves.fitting.k,
        "tasks": list(outputs.tasks),
        "diversity": halves.fitting.diversity,
        "objectives": [
            {"metric": axis.metric, "direction": axis.direction, "ideal": axis.ideal, "worst": axis.worst}
            for axis in objectives
        ],
        "evaluations": n_evaluated,
        **_measured(halves, objectives, fronts, config.keep),
    }
    return run.write_fusion(member, report)


Fronts = Mapping[str, Sequence[Candidate[Any]]]


def evolved_fronts(halves: UserHalves, objectives: Sequence[Objective], config: FuseConfig) -> tuple[Fronts, int]:
    """Fronts of trees, weighted sums and weighted products, each from the same number of evaluations.

    Args:
        halves: of the member.
        objectives: M objectives.
        config: of the evolution.
    Returns:
        The fronts on the fitting half by method, and the evaluations of each.
    """
    tasks, is_binary = halves.outputs.tasks, halves.outputs.is_binary
    total = WeightedLanguage("sum", tasks, is_binary, halves.signs)
    product = WeightedLanguage("product", tasks, is_binary, halves.signs)
    seeds = [halves.own, *(one.formula(genome) for one in (total, product) for genome in one.seeds())]
    trees = TreeLanguage(
        tasks, is_binary, max_size=config.max_size, seeds=list(dict.fromkeys(seeds)), starters=(total, product)
    )
    budget = config.population * config.generations + config.tuning
    languages: dict[str, Language[Any]] = {"evolved": trees, "weighted sum": total, "weighted product": product}
    out: dict[str, Sequence[Candidate[Any]]] = {}
    for name, language in languages.items():
        seed = child_seed(config.seed, name)
        evolution = Evolution(language, halves.fitting, objectives, mmr=config.mmr, seed=seed)
        out[name] = evolution.run(config.population, budget, tuning=config.tuning)
    return out, evolution.n_evaluated


def _measured(halves: UserHalves, objectives: Sequence[Objective], fronts: Fronts, keep: int) -> dict[str, Any]:
    """Formulas, baselines and hypervolumes, on both halves."""

    def thinned(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [rows[i] for i in best_of_front([row["fitted"] for row in rows], objectives, keep)]

    own = [halves.row(halves.own, weight) for weight in MMR_WEIGHTS if weight == 0 or halves.fitting.has_content]
    rows = {"member": own[:1], "member + mmr": own}
    rows |= {name: [halves.row(one.formula, one.mmr) for one in front] for name, front in fronts.items()}
    kept = thinned([dict(row, origin=name) for name in ("evolved", *BASELINES) for row in rows[name]])
    metric = next((axis.metric for axis in objectives if axis.metric != SIZE), SIZE)
    kept.sort(key=lambda row: (-row["fitted"][metric], row["size"], row["text"], row["mmr"]))
    mask = non_dominated(normalised([row["validation"] for row in kept], objectives))
    formulas = [
        {"id": f"f{number}", **row, "non_dominated": bool(best)}
        for number, (row, best) in enumerate(zip(kept, mask, strict=True), start=1)
    ]
    shares = {name: hypervolumes(rows[name], objectives) for name in (*BASELINES, "evolved")}
    shares["kept"] = hypervolumes(kept, objectives)
    return {"formulas": formulas, "baselines": {name: thinned(rows[name]) for name in BASELINES}, "hypervolume": shares}


def hypervolumes(rows: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]) -> dict[str, float]:
    """Share of the box on either half, of all objectives except the size of the formula."""
    axes = [axis for axis in objectives if axis.metric != SIZE]
    return {half: hypervolume_share([row[half] for row in rows], axes) for half in ("fitted", "validation")}
