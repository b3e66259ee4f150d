"""The explanation of a member: settings, neighbours, use of experts, and importance of its inputs.

Weights are those of the search; rows and users are those that the search measured: validation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

from evorec.deploy.explanation.description import NO_RANKER, describe
from evorec.deploy.explanation.gates import ExpertUse, expert_uses
from evorec.deploy.explanation.importance import Importance, block_importance
from evorec.deploy.explanation.neighbours import Neighbour, neighbours
from evorec.deploy.runs import check_belongs
from evorec.errors import ConfigError, RunError
from evorec.models.mechanism import mechanism_of
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import RecProblem
from evorec.run.directory import RunDirectory


@final
@dataclass(frozen=True)
class Explanation:
    """The explanation of a member.

    Attributes:
        member: its key.
        words: its genome in sentences.
        neighbours: nearest members of the front, nearest first.
        layers: how many of its layers are shared, in a sentence.
        uses: its mixtures from the bottom up; empty for a mechanism without mixtures.
        values: of the permuted metrics, without permutation.
        importance: of every block of its input.
        n_rows: validation rows on which tasks are measured.
        n_users: users whose lists are measured.
        repeats: permutations of each block.
    """

    member: str
    words: tuple[str, ...]
    neighbours: tuple[Neighbour, ...]
    layers: str
    uses: tuple[ExpertUse, ...]
    values: Mapping[str, float]
    importance: tuple[Importance, ...]
    n_rows: int
    n_users: int
    repeats: int


def explain(
    run: RunDirectory,
    problem: RecProblem,
    member: str,
    *,
    repeats: int,
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Explanation:
    """Explain a member of a run with the weights of the search; nothing is written.

    Args:
        run: the run.
        problem: the problem it searched.
        member: key of a member.
        repeats: permutations of each block of the input, at least 1.
        seed: of the permutations, which are the same for every member.
        progress: called with a line of text per step.
    Raises:
        RunError: the run belongs to another problem, or has no such member.
        ConfigError: `repeats` is less than 1.
    """
    if repeats < 1:
        raise ConfigError(f"repeats must be at least 1, got {repeats}.")
    check_belongs(run, problem)
    members = {evaluation.key: (evaluation.spec, evaluation.metrics or {}) for evaluation in run.members()}
    if member not in members:
        raise RunError(f"run {run.path} has no member {member}; its members are: {', '.join(members) or 'none'}")
    encoded, genes = problem.data, members[member][0]
    spec, n_layers = ModelSpec.from_genes(genes), encoded.tensors.shape.n_layers
    population = encoded.stack([spec], [run.read_weights(member)])
    progress("measuring the use of experts on the validation rows")
    uses = expert_uses(population, encoded) if encoded.dataset.tasks else ()
    layers = (
        f"Layers from the bottom up: {spec.sharing_depth} of {n_layers} {mechanism_of(spec).shared_layers}, "
        f"{n_layers - spec.sharing_depth} of each task, and the heads."
        if encoded.dataset.tasks
        else NO_RANKER
    )
    values, importance = block_importance(population, encoded, repeats=repeats, seed=seed, progress=progress)
    return Explanation(
        member=member,
        words=tuple(describe(genes, problem.space)),
        neighbours=neighbours(member, members, problem.objectives),
        layers=layers,
        uses=uses,
        values=values,
        importance=importance,
        n_rows=encoded.dataset.held_out.n_rows,
        n_users=len(encoded.users.ids),
        repeats=repeats,
    )
