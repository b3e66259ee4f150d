"""From a memory to an opinion on the genomes of a new search: a Gaussian process over genomes of other worlds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeVar, final

import numpy as np
import polars as pl

from evorec.config import RunConfig
from evorec.errors import ConfigError
from evorec.objectives import FloatArray, Objective
from evorec.search.algorithm import AlgorithmContext
from evorec.search.memory.table import Memory
from evorec.search.surrogate.gaussian_process import GaussianProcess
from evorec.search.surrogate.model import gene_features
from evorec.space.genes import OrderedGene
from evorec.space.space import SearchSpace

C = TypeVar("C", bound=RunConfig)

MOST_ROWS: Final = 400
"""Rows of the prior, shared by the worlds: the time of a fit grows with their cube."""
FITTED_ROWS: Final = 150
"""Rows to which the hyper-parameters are fitted; all rows then have a part in the predictions."""
LEAST_ROWS: Final = 8
"""A world with fewer rows is left out: its mean and spread would be noise."""
LEAST_GENES: Final = 0.5
"""Share of the genes of the new space that a world must know; otherwise its rows say little about the space."""
FARTHEST: Final = 3.0
"""Standardised objectives are clipped to this: a diverged candidate is bad, how bad is noise."""
UNKNOWN_OFFSET, UNKNOWN_SPREAD = 0.7, 0.15
"""Mean and standard deviation, in box coordinates, of an objective that no world has measured."""


def base_metric(name: str) -> str:
    """A metric without its list length: ``recall@20`` and ``recall@10`` are compared.

    Example:
        >>> base_metric("recall@20"), base_metric("training_flops")
        ('recall@k', 'training_flops')
    """
    return re.sub(r"@\d+$", "@k", name)


def translated(space: SearchSpace, spec: Mapping[str, Any]) -> FloatArray:
    """The genome ``(V,)`` nearest to a spec of another space.

    Genes are matched by name. A missing gene, or a gene whose value does not exist here, has its default; numbers are
    clipped to the bounds; unknown genes are left out.
    """
    x = space.default()
    for gene in space.genes:
        if gene.name not in spec:
            continue
        value = spec[gene.name]
        if isinstance(gene, OrderedGene) and isinstance(value, int | float) and not isinstance(value, bool):
            value = min(max(value, gene.low), gene.high)
        try:
            x[space.slices[gene.name]] = gene.encode(tuple(value) if isinstance(value, list) else value)
        except ConfigError:
            continue
    row: FloatArray = space.snap(x[None])[0]
    return row


def with_start(config: C, specs: Sequence[Mapping[str, Any]], space: SearchSpace) -> C:
    """The configuration with further genomes to begin with.

    Args:
        config: of a run.
        specs: of searches whose space may have been another; each is translated, and repeated genomes are left out.
        space: of the run.
    """
    if not specs:
        return config
    found = [json.loads(json.dumps(space.decode(translated(space, spec)))) for spec in specs]
    start = tuple(spec for number, spec in enumerate(found) if spec not in found[:number])
    search = config.search.model_copy(update={"start": (*config.search.start, *start)})
    return config.model_copy(update={"search": search})


def nearness(facts: Mapping[str, float], other: Mapping[str, Any]) -> float:
    """Of two data sets, in (0, 1]: falls with the mean difference of the logarithms of the facts that both have."""
    names = [name for name in facts if _is_size(facts[name]) and _is_size(other.get(name))]
    if not names:
        return 0.5
    return math.exp(-0.25 * sum(abs(math.log(facts[name] / other[name])) for name in names) / len(names))


def chosen_rows(
    memory: Memory, space: SearchSpace, objectives: Sequence[Objective], facts: Mapping[str, float]
) -> Memory:
    """The rows that a prior uses: at most `MOST_ROWS`, more of them from data of a similar size.

    Args:
        memory: rows of earlier searches.
        space, objectives: of the new search.
        facts: size of the new data set.
    """
    names = {gene.name for gene in space.genes if gene.n_columns}
    wanted = {base_metric(objective.metric) for objective in objectives}
    worlds: list[pl.DataFrame] = []
    for _, frame in memory.frame.group_by("world", maintain_order=True):
        specs = [json.loads(text) for text in frame["spec"]]
        known = names & set[str]().union(*specs)
        measured = [bool(wanted & set(finite_metrics(text))) for text in frame["metrics"]]
        frame = frame.filter(pl.Series(measured, dtype=pl.Boolean))
        if len(known) >= LEAST_GENES * len(names) and len(frame) >= LEAST_ROWS:
            worlds.append(frame)
    near = [nearness(facts, json.loads(frame["facts"][0])) for frame in worlds]
    kept = [Memory.empty().frame]
    for frame, weight in zip(worlds, near, strict=True):
        n = min(len(frame), max(LEAST_ROWS, round(MOST_ROWS * weight / sum(near))))
        kept.append(frame[np.linspace(0, len(frame) - 1, n).round().astype(int).tolist()])  # early and late rows
    return Memory(pl.concat(kept))


def _is_size(value: object) -> bool:
    """Whether a fact is a number that can be compared; a memory may come from anywhere."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


@final
class MemoryPrior:
    """Expected objectives of genomes by the rows of a memory; a `PriorMean`.

    Objectives are standardised in each world, a cost as its logarithm, so only the order and relative distance of
    genomes are taken over.

    Args:
        memory: `chosen_rows` of earlier searches.
        space: of the new search.
        objectives: of the new search, M.
        known: names of objectives that the search knows without an evaluation; they need no prior.

    Attributes:
        offsets, spreads: typical mean and standard deviation of each objective in a world, in box coordinates ``(M,)``.
        X: genomes of the memory in the new space ``(N, V)``.
        values: their standardised objectives ``(N, M)``, lower is better; NaN where not measured.
        worlds: names of the worlds.
    """

    def __init__(
        self, memory: Memory, space: SearchSpace, objectives: Sequence[Objective], known: Collection[str] = ()
    ) -> None:
        self._space, n = space, len(objectives)
        groups = {str(name): frame for (name,), frame in memory.frame.group_by("world", maintain_order=True)}
        self.worlds = tuple(groups)
        self.X = np.array(
            [translated(space, json.loads(text)) for frame in groups.values() for text in frame["spec"]]
        ).reshape(len(memory), space.n_var)
        points = [self._points(frame, objectives) for frame in groups.values()]
        self.values = np.vstack([np.empty((0, n)), *[_standard(world) for world in points]])
        self.offsets, self.spreads = np.full(n, UNKNOWN_OFFSET), np.full(n, UNKNOWN_SPREAD)
        self._processes: dict[int, GaussianProcess] = {}
        for column, objective in enumerate(objectives):
            measured = np.isfinite(self.values[:, column])
            if measured.sum() < LEAST_ROWS or objective.name in known:
                continue
            parts = [np.clip(world[np.isfinite(world[:, column]), column], 0.0, 1.0) for world in points]
            parts = [part for part in parts if len(part) >= LEAST_ROWS and np.ptp(part) > 0]
            if parts:
                self.offsets[column] = np.median([part.mean() for part in parts])
                self.spreads[column] = np.median([part.std() for part in parts])
            self._processes[column] = self._fitted(self.X[measured], self.values[measured, column])

    def _fitted(self, X: FloatArray, values: FloatArray) -> GaussianProcess:
        some = np.linspace(0, len(X) - 1, min(FITTED_ROWS, len(X))).round().astype(int)
        fitted = GaussianProcess.fit(gene_features(self._space, X[some]), values[some])
        return GaussianProcess.given(gene_features(self._space, X), values, fitted.log_parameters)

    @staticmethod
    def _points(frame: pl.DataFrame, objectives: Sequence[Objective]) -> FloatArray:
        """Box coordinates of the rows of a world ``(N, M)``, NaN where not measured."""
        rows = [finite_metrics(text) for text in frame["metrics"]]
        columns = [o.normalised([row.get(base_metric(o.metric), math.nan) for row in rows]) for o in objectives]
        return np.array(columns).T

    def __bool__(self) -> bool:
        return bool(self._processes)

    def means(self, X: FloatArray) -> FloatArray:
        """Expected standardised objectives, float64 ``(N, M)``; lower is better, 0 where nothing is known."""
        points, out = gene_features(self._space, X).points, np.zeros((len(X), len(self.offsets)))
        for column, process in self._processes.items():
            out[:, column] = process.mean(points)
        return out


def finite_metrics(text: str) -> dict[str, float]:
    """Finite metrics of a row by their name without the list length."""
    found = {base_metric(name): value for name, value in json.loads(text).items()}
    return {name: value for name, value in found.items() if isinstance(value, int | float) and math.isfinite(value)}


def _standard(points: FloatArray) -> FloatArray:
    """Box coordinates of a world ``(N, M)`` with mean 0 and standard deviation 1 per objective; NaN stays NaN."""
    out = np.full_like(points, np.nan)
    for column, values in enumerate(points.T):
        measured = np.isfinite(values)
        if measured.sum() >= LEAST_ROWS:
            part = values[measured]
            out[measured, column] = np.clip((part - part.mean()) / (part.std() or 1.0), -FARTHEST, FARTHEST)
    return out


def prior_of(rows: Memory, context: AlgorithmContext) -> MemoryPrior | None:
    """The prior of a search by `chosen_rows`; None if they say nothing about its objectives."""
    if not len(rows):
        return None
    known = np.isfinite(context.known_points(context.space.default()[None])[0])
    names = [objective.name for objective, is_known in zip(context.objectives, known, strict=True) if is_known]
    return MemoryPrior(rows, context.space, context.objectives, names) or None
