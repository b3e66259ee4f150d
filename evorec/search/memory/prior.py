"""From a memory to an opinion on the genomes of a new search: a Gaussian process over genomes of other worlds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import numpy as np
import polars as pl

from evorec.errors import ConfigError
from evorec.objectives import FloatArray, Objective
from evorec.search.memory.table import Memory
from evorec.search.surrogate.gaussian_process import GaussianProcess
from evorec.search.surrogate.model import HIGH, LOW, gene_features
from evorec.space.genes import OrderedGene
from evorec.space.space import SearchSpace

MOST_ROWS: Final = 400
"""Rows of the prior, shared by the worlds: the time of a fit grows with their cube."""
LEAST_ROWS: Final = 8
"""A world with fewer rows is left out: its mean and spread would be noise."""


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


def nearness(facts: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Of two data sets, in (0, 1]: falls with the mean difference of the logarithms of the facts that both have."""
    names = [name for name in facts if name in other and min(facts[name], other[name]) > 0]
    if not names:
        return 0.5
    return math.exp(-0.25 * sum(abs(math.log(facts[name] / other[name])) for name in names) / len(names))


@final
class MemoryPrior:
    """Expected objectives of genomes by the rows of a memory; a `PriorMean`.

    Objectives are standardised in each world, a cost as its logarithm, so only the order and relative distance of
    genomes are taken over.

    Args:
        memory: rows of earlier searches.
        space: of the new search.
        objectives: of the new search, M.
        facts: size of the new data set.

    Attributes:
        offsets, spreads: typical mean and standard deviation of each objective in a world, in box coordinates ``(M,)``.
        X: genomes of the memory in the new space ``(N, V)``.
        values: their standardised objectives ``(N, M)``, lower is better.
        n_worlds: number of worlds that gave rows.
    """

    def __init__(
        self, memory: Memory, space: SearchSpace, objectives: Sequence[Objective], facts: Mapping[str, float]
    ) -> None:
        self._space = space
        genomes: list[FloatArray] = []
        values: list[FloatArray] = []
        spreads: list[FloatArray] = []
        offsets: list[FloatArray] = []
        groups = {str(name): frame for (name,), frame in memory.frame.group_by("world", maintain_order=True)}
        found = {name: self._world(frame, objectives) for name, frame in groups.items()}
        worlds = {name: rows for name, rows in found.items() if len(rows[0]) >= LEAST_ROWS}
        near = {name: nearness(facts, json.loads(groups[name]["facts"][0])) for name in worlds}
        total = sum(near.values())
        for name, (specs, points) in worlds.items():
            n_rows = max(LEAST_ROWS, round(MOST_ROWS * near[name] / total))
            spread = points.std(axis=0)
            spread = np.where(spread > 0, spread, 1.0)
            kept = np.linspace(0, len(points) - 1, min(n_rows, len(points))).round().astype(int)  # early and late rows
            genomes += [translated(space, specs[row]) for row in kept]
            values.append(((points - points.mean(axis=0)) / spread)[kept])
            spreads.append(spread)
            offsets.append(points.mean(axis=0))
        self.n_worlds = len(worlds)
        self.X = np.array(genomes).reshape(len(genomes), space.n_var)
        self.values = np.vstack([np.empty((0, len(objectives))), *values])
        self.spreads, self.offsets = (
            np.median(rows, axis=0) if rows else np.zeros(len(objectives)) for rows in (spreads, offsets)
        )
        self._processes: tuple[GaussianProcess, ...] = ()
        if len(self.X):
            features = gene_features(space, self.X)
            distances = features.squared_distances()
            self._processes = tuple(
                GaussianProcess.fit(features, column, distances=distances) for column in self.values.T
            )

    @staticmethod
    def _world(frame: pl.DataFrame, objectives: Sequence[Objective]) -> tuple[list[Mapping[str, Any]], FloatArray]:
        """Specs and box coordinates of the rows of a world that have all objectives."""
        rows = [{base_metric(name): value for name, value in json.loads(text).items()} for text in frame["metrics"]]
        wanted = [base_metric(objective.metric) for objective in objectives]
        complete = [i for i, row in enumerate(rows) if all(math.isfinite(row.get(name, math.nan)) for name in wanted)]
        specs = [json.loads(frame["spec"][i]) for i in complete]
        columns = [
            np.clip(objective.normalised([rows[i][name] for i in complete]), LOW, HIGH)
            for objective, name in zip(objectives, wanted, strict=True)
        ]
        return specs, np.array(columns).T

    def __bool__(self) -> bool:
        return bool(self._processes)

    def means(self, X: FloatArray) -> FloatArray:
        """Expected standardised objectives, float64 ``(N, M)``; lower is better."""
        points = gene_features(self._space, X).points
        return np.array([process.mean(points) for process in self._processes]).T
