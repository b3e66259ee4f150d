"""Explaining a member: what it says of itself, who mixes which experts, and what it would lose without each input.

The weights are those of the search, the rows and users those that the search measured: validation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor

from evorec.deploy.explaining.importance import Importance, Spread, block_importance
from evorec.deploy.explaining.words import (
    Difference,
    Neighbour,
    differences,
    genome_in_words,
    neighbour_in_words,
    neighbours,
)
from evorec.deploy.final.finalize import check_belongs
from evorec.errors import ConfigError, RunError
from evorec.models.forward import ForwardPass
from evorec.models.mechanism import mechanism_of
from evorec.models.population import Bag, KernelGroup, Population
from evorec.models.slots import SHARED, Mix
from evorec.models.spec import ModelSpec
from evorec.problem import Spec
from evorec.recommender.encoding import EncodedData
from evorec.recommender.problem import RecProblem
from evorec.run.directory import RunDirectory
from evorec.training.evaluate import ROWS_AT_ONCE

STREAM: Final = "shared stream"
"""Reader of the mixtures that the next level's shared experts start from."""


@final
@dataclass(frozen=True)
class Use:
    """One mixture over the validation rows: how much of each source its reader takes.

    Attributes:
        level: layers below the mixture, from 1.
        reader: a task, or `STREAM`.
        shares: by source (an expert, or a task's own network); mean over rows, sum 1, and standard deviation of rows.
        entropy: mean over rows of the shares' entropy, over that of equal shares: 0 = one source, 1 = all alike.
    """

    level: int
    reader: str
    shares: Mapping[str, Spread]
    entropy: float


@final
@dataclass(frozen=True)
class NextTo:
    """A neighbour on the front: what it trades, the settings that differ, and both in a sentence."""

    neighbour: Neighbour
    differences: tuple[Difference, ...]
    words: str


@final
@dataclass(frozen=True)
class Explanation:
    """One member, explained.

    Attributes:
        member: its key.
        words: its genome in sentences.
        neighbours: nearest members of the front, nearest first.
        layers: how many of its layers are shared, in a sentence.
        uses: its mixtures from the bottom up; empty for a mechanism without.
        values: what the permuted metrics are without permutation.
        importance: every block of its input.
        n_rows: validation rows that tasks are measured on.
        n_users: users whose lists are measured.
        repeats: permutations of each block.
    """

    member: str
    words: tuple[str, ...]
    neighbours: tuple[NextTo, ...]
    layers: str
    uses: tuple[Use, ...]
    values: Mapping[str, float]
    importance: tuple[Importance, ...]
    n_rows: int
    n_users: int
    repeats: int

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        named = [
            {
                **asdict(near.neighbour),
                "trades": {name: trade._asdict() for name, trade in near.neighbour.trades.items()},
                "differences": [one._asdict() for one in near.differences],
                "words": near.words,
            }
            for near in self.neighbours
        ]
        uses = [
            {**vars(use), "shares": {name: share._asdict() for name, share in use.shares.items()}} for use in self.uses
        ]
        blocks = [
            {**vars(one), "drops": {name: drop._asdict() for name, drop in one.drops.items()}}
            for one in self.importance
        ]
        return {
            **vars(self),
            "words": list(self.words),
            "neighbours": named,
            "uses": uses,
            "values": dict(self.values),
            "importance": blocks,
        }


def explain(
    run: RunDirectory,
    problem: RecProblem,
    member: str,
    *,
    repeats: int,
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Explanation:
    """Explains a member of a run with the weights that the search gave it; nothing is written.

    Args:
        run: the run.
        problem: the problem it searched.
        member: key of a member.
        repeats: permutations of each block of the input, at least 1.
        seed: of the permutations, which are the same for every member.
        progress: told what goes on, one line each.
    Raises:
        RunError: the run belongs to another problem, or has no such member.
        ConfigError: `repeats` is less than 1.
    """
    if repeats < 1:
        raise ConfigError(f"repeats must be at least 1, got {repeats}.")
    check_belongs(run, problem)
    members = {evaluation.key: evaluation for evaluation in run.members()}
    if member not in members:
        raise RunError(f"run {run.path} has no member {member}; its members are: {', '.join(members) or 'none'}")
    encoded, genes = problem.data, members[member].spec
    spec = ModelSpec.from_genes(genes)
    population = encoded.stack([spec], [run.read_weights(member)])
    progress("following the validation rows through the model")
    uses = expert_uses(population, encoded)
    values, importance = block_importance(population, encoded, repeats=repeats, seed=seed, progress=progress)
    return Explanation(
        member=member,
        words=tuple(genome_in_words(genes, encoded.dataset.tasks, target=encoded.dataset.target)),
        neighbours=_neighbours(member, {key: (one.spec, one.metrics or {}) for key, one in members.items()}, problem),
        layers=_layers(spec, encoded.tensors.shape.n_layers),
        uses=uses,
        values=values,
        importance=importance,
        n_rows=encoded.dataset.held_out.n_rows,
        n_users=len(encoded.users.ids),
        repeats=repeats,
    )


def _neighbours(
    member: str, members: Mapping[str, tuple[Spec, Mapping[str, float]]], problem: RecProblem
) -> tuple[NextTo, ...]:
    own, out = members[member][0], []
    for near in neighbours(member, {key: metrics for key, (_, metrics) in members.items()}, problem.objectives):
        found = tuple(differences(own, members[near.key][0]))
        out.append(NextTo(near, found, neighbour_in_words(near, problem.objectives, found)))
    return tuple(out)


def _layers(spec: ModelSpec, n_layers: int) -> str:
    """How many of the layers are shared."""
    if spec.sharing_depth == 0:
        return f"None of the {n_layers} layers is shared."
    how = mechanism_of(spec).shared_layers
    own = n_layers - spec.sharing_depth
    if not own:
        return f"All {n_layers} layers are {how}; only the output is each task's own."
    below = "layer is" if spec.sharing_depth == 1 else f"{spec.sharing_depth} layers are"
    above = "one is" if own == 1 else f"{own} are"
    return f"Of {n_layers} layers the first {below} {how}, and the last {above} each task's own."


def expert_uses(population: Population, encoded: EncodedData) -> tuple[Use, ...]:
    """What the gates, stitches and attention of a member do over the held-out rows, from the bottom up.

    Args:
        population: a stack of one member.
        encoded: its data.
    """
    (block,) = population.kernel_groups
    totals: dict[int, _Total] = {}
    with torch.no_grad():
        for start in range(0, encoded.dataset.held_out.n_rows, ROWS_AT_ONCE):
            x = _ranker_input(block, encoded, slice(start, start + ROWS_AT_ONCE))
            mixes = block.network.mixes(ForwardPass(block.trained, (0.0,)), x)
            if not mixes:
                return ()
            for place, mix in enumerate(mixes):
                totals.setdefault(place, _Total(mix)).add(mix)
    return tuple(total.use(encoded.dataset.tasks, block.network.shape.parents) for total in totals.values())


def _ranker_input(block: KernelGroup, encoded: EncodedData, some: slice) -> Tensor:
    """Input ``[1, G, B, n_in]`` of a lone member's mechanism for some held-out rows."""
    part, data = encoded.dataset.held_out, encoded.tensors
    users, items, contexts = (
        torch.tensor(rows[some], device=data.device) for rows in (part.users, part.items, part.context)
    )
    bags = (_chosen(data.users, users), _chosen(data.items, items), data.context_bag(contexts))
    u, v, c = (block.vectors(bag) for bag in bags)
    statistics = torch.tensor(part.statistics[some], dtype=data.dtype, device=data.device)
    return torch.cat([u, v, u * v, c, statistics.expand(1, u.shape[1], -1, -1)], 3)


def _chosen(bag: Bag, entities: Tensor) -> Bag:
    content = None if bag.content is None else bag.content[entities]
    return Bag(bag.rows[entities], bag.weights[entities], content)


@final
class _Total:
    """Sums of one mixture's shares over rows."""

    def __init__(self, mix: Mix) -> None:
        self._mix, self._n = mix, 0
        self._sum = np.zeros(len(mix.sources))
        self._squares = np.zeros(len(mix.sources))
        self._entropy = 0.0

    def add(self, mix: Mix) -> None:
        """The same mixture for further rows."""
        shares = mix.shares[0].cpu().numpy().astype(np.float64)  # (K, B)
        self._n += shares.shape[1]
        self._sum += shares.sum(1)
        self._squares += (shares**2).sum(1)
        self._entropy -= float((shares * np.log(np.where(shares > 0, shares, 1.0))).sum())

    def use(self, tasks: Sequence[str], parents: Sequence[int]) -> Use:
        """With the names of tasks."""
        mean = self._sum / self._n
        variance = np.maximum(self._squares - self._n * mean**2, 0.0) / max(self._n - 1, 1)
        names = _source_names(self._mix, tasks, parents)
        most = np.log(len(names))
        return Use(
            level=self._mix.level + 1,
            reader=STREAM if self._mix.reader == SHARED else tasks[self._mix.reader],
            shares={
                name: Spread(float(m), float(s)) for name, m, s in zip(names, mean, np.sqrt(variance), strict=True)
            },
            entropy=self._entropy / self._n / float(most) if most > 0 else 0.0,
        )


def _source_names(mix: Mix, tasks: Sequence[str], parents: Sequence[int]) -> list[str]:
    """Experts by owner and number from 1; the bare task where each owner has one thing, and nobody shares."""
    owners = [owner for owner, _ in mix.sources]
    if SHARED not in owners and len(set(owners)) == len(owners):
        return [tasks[owner] for owner in owners]
    return [f"{'shared' if owner == SHARED else tasks[owner]} {number + 1}" for owner, number in mix.sources]
