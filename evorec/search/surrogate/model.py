"""The surrogate: a Gaussian process per objective and constraint, over everything that was evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from evorec.objectives import Constraint, Objective
from evorec.search.surrogate.gaussian_process import FloatArray, GaussianProcess, GeneFeatures
from evorec.space.space import SearchSpace

LOW, HIGH = -0.5, 2.0
"""Box coordinates are clipped to this range before they are modelled: a diverged candidate is bad, how bad is noise."""
SHARED_SPREAD, OWN_SPREAD = 0.08, 0.06
"""Standard deviations of a draw from the prior alone: common to all genomes, and of each."""
LINE_NOISE, OFFSET_SPREAD = 0.1, 0.3
"""Standard deviation of a row around the line of the prior, and of a search's offset around the typical offset."""
MOST_ROWS: Final = 300
"""Rows of a model: the front, then the newest rows. The time of a fit grows with their cube."""


def gene_features(space: SearchSpace, X: FloatArray) -> GeneFeatures:
    """Features of snapped genomes ``(N, V)``, a length scale for each gene with columns."""
    parts = [gene.features(X[:, space.slices[gene.name]]) for gene in space.genes if gene.n_columns]
    genes = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
    return GeneFeatures(np.hstack([np.empty((len(X), 0)), *parts]), genes)


@final
@dataclass(frozen=True)
class Rows:
    """Evaluated genomes without failures.

    Attributes:
        X: snapped genomes ``(N, V)``.
        points: box coordinates of the objectives ``(N, M)``.
        G: constraints ``(N, C)``, at most 0 is feasible.
    """

    X: FloatArray
    points: FloatArray
    G: FloatArray

    def __len__(self) -> int:
        return len(self.X)

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Which rows keep all constraints, bool ``(N,)``."""
        return np.asarray((self.G <= 0).all(axis=1))

    def select(self, rows: NDArray[np.intp]) -> Rows:
        """Some of the rows."""
        return Rows(self.X[rows], self.points[rows], self.G[rows])


class PriorMean(Protocol):
    """An opinion on genomes before they were evaluated, e.g. from earlier searches.

    Attributes:
        offsets, spreads: typical mean and standard deviation of the box coordinates of a search ``(M,)``.
    """

    offsets: FloatArray
    spreads: FloatArray

    def means(self, X: FloatArray) -> FloatArray:
        """Expected objectives relative to other genomes, float64 ``(N, M)``: mean 0 and spread 1, lower is better."""
        ...


@final
@dataclass
class SurrogateModel:
    """Predicts box coordinates and constraints of genomes.

    With a prior m, an objective is ``a m(x) + b`` plus a process; a and b are fitted to the rows by ridge regression,
    towards the spread and offset that are typical of the prior's worlds.

    Args:
        space: of the genomes.
        objectives: M objectives.
        constraints: C constraints. A constraint on the metric of an objective follows from that objective; any other
            gets a process of its own.
        known: box coordinates that are known without an evaluation, ``(N, M)``, NaN where unknown.
        prior: an opinion before the first row; without any, `fit` comes first.
    """

    space: SearchSpace
    objectives: Sequence[Objective]
    constraints: Sequence[Constraint]
    known: Callable[[FloatArray], FloatArray]
    prior: PriorMean | None = None
    _processes: dict[int, GaussianProcess] = field(default_factory=dict)
    _line: tuple[FloatArray, FloatArray] | None = None

    def fit(self, rows: Rows) -> None:
        """Learn from at least one row; hyper-parameters start from those of the last fit."""
        features, n_objectives = gene_features(self.space, rows.X), len(self.objectives)
        distances = features.squared_distances()
        values = np.hstack([np.clip(rows.points, LOW, HIGH), rows.G])
        if self.prior is not None:
            m = self.prior.means(rows.X)
            self._line = _ridge(m, values[:, :n_objectives], self.prior.spreads, self.prior.offsets)
            values[:, :n_objectives] -= self._line[0] * m + self._line[1]
        exact = np.asarray(np.isfinite(self.known(rows.X)).all(axis=0))
        modelled = [column for column in range(n_objectives) if not exact[column]]
        # a constraint that never varied says nothing yet
        modelled += [
            n_objectives + index
            for index in range(len(self.constraints))
            if objective_of(self.constraints[index], self.objectives) is None and float(np.ptp(rows.G[:, index])) > 0
        ]
        starts = {column: process.log_parameters for column, process in self._processes.items()}
        self._processes = {
            column: GaussianProcess.fit(features, values[:, column], start=starts.get(column), distances=distances)
            for column in modelled
        }

    def means(self, X: FloatArray) -> FloatArray:
        """Expected box coordinates, float64 ``(N, M)``."""
        points, out = gene_features(self.space, X).points, self._line_of(X)
        for objective in range(out.shape[1]):
            if objective in self._processes:
                out[:, objective] += self._processes[objective].mean(points)
        known = self.known(X)
        return np.where(np.isfinite(known), known, out)

    def draws(self, X: FloatArray, rng: np.random.Generator, n: int) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Joint draws of the objectives, and whether each keeps the constraints.

        Args:
            X: snapped genomes ``(N, V)``.
            rng: source of randomness.
            n: number of draws S.
        Returns:
            Box coordinates ``(S, N, M)`` and bool ``(S, N)``.
        """
        points, n_objectives = gene_features(self.space, X).points, len(self.objectives)
        out = np.broadcast_to(self._line_of(X), (n, len(X), n_objectives)).copy()
        feasible: NDArray[np.bool_] = np.ones((n, len(X)), dtype=bool)
        if not self._processes:  # no row yet: how far this search is from the typical search, and each genome from it
            out += SHARED_SPREAD * rng.standard_normal((n, 1, n_objectives))
            out += OWN_SPREAD * rng.standard_normal(out.shape)
        for column, process in self._processes.items():
            drawn = process.draws(points, rng.standard_normal((n, len(X))))
            if column < n_objectives:
                out[:, :, column] += drawn
            else:
                feasible &= np.asarray(drawn <= 0)
        known = self.known(X)
        out = np.where(np.isfinite(known), known, out)
        return out, feasible & follow(self.constraints, self.objectives, out)

    def _line_of(self, X: FloatArray) -> FloatArray:
        """The part of the prior, ``(N, M)``; 0 without a prior."""
        if self.prior is None:
            return np.zeros((len(X), len(self.objectives)))
        slope, offset = (self.prior.spreads, self.prior.offsets) if self._line is None else self._line
        line: FloatArray = slope * self.prior.means(X) + offset
        return line


def objective_of(constraint: Constraint, objectives: Sequence[Objective]) -> int | None:
    """The objective that measures the metric of a constraint, from which the constraint follows."""
    return next((i for i, objective in enumerate(objectives) if objective.metric == constraint.metric), None)


def follow(constraints: Sequence[Constraint], objectives: Sequence[Objective], points: FloatArray) -> NDArray[np.bool_]:
    """Whether box coordinates ``(S, N, M)`` keep the constraints that follow from an objective, bool ``(S, N)``."""
    feasible: NDArray[np.bool_] = np.ones(points.shape[:2], dtype=bool)
    for constraint in constraints:
        if (objective := objective_of(constraint, objectives)) is not None:
            feasible &= constraint.holds(objectives[objective].natural(points[:, :, objective]))
    return feasible


def _ridge(m: FloatArray, points: FloatArray, slopes: FloatArray, offsets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slope and offset of each objective ``(M,)``: the most probable line through the rows.

    Args:
        m: prior means ``(N, M)``.
        points: box coordinates ``(N, M)``.
        slopes, offsets: of a typical search.
    """
    out = np.empty((2, len(slopes)))
    for j, (slope, offset) in enumerate(zip(slopes, offsets, strict=True)):
        A = np.stack([m[:, j], np.ones(len(m))], axis=1)
        weight = np.diag([(LINE_NOISE / (0.5 * slope)) ** 2, (LINE_NOISE / OFFSET_SPREAD) ** 2])
        out[:, j] = np.linalg.solve(A.T @ A + weight, A.T @ points[:, j] + weight @ [slope, offset])
    return out[0], out[1]
