"""Gaussian process regression with a length scale per gene, fitted by its posterior mode.

Kernel: ``s * matern52(r) + noise``, with ``r**2 = sum_g |z_g - z'_g|**2 / l_g**2`` over the genes g, whose features are
one or several columns. scikit-learn's regressor has no priors on its hyper-parameters; with 40 genes and 80 rows the
likelihood alone fits noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

FloatArray = NDArray[np.float64]

SCALE_SPREAD: Final = math.sqrt(3.0)
"""Standard deviation of the logarithm of a length scale a priori; its mean grows with the square root of the number of
genes, so that a random pair of genomes stays equally far apart. Source: Hvarfner et al. 2024."""
SCALE_MEAN: Final = math.sqrt(2.0)
NOISE_MEAN, NOISE_SPREAD = -4.0, 1.0
"""Of the logarithm of the noise variance, in units of the variance of the values."""
SIGNAL_SPREAD: Final = 1.0
JITTER: Final = 1e-8
MOST_ITERATIONS: Final = 60
LOG_BOUNDS: Final = (-9.0, 9.0)
"""Of every hyper-parameter; far outside of what the priors allow, near enough for finite products."""


@final
@dataclass(frozen=True)
class GeneFeatures:
    """Genomes as points whose distances the kernel reads.

    Attributes:
        points: float64 ``(N, D)``.
        genes: gene of each column, int ``(D,)``, rising from 0.
    """

    points: FloatArray
    genes: NDArray[np.intp]

    @property
    def n_genes(self) -> int:
        """G, the number of length scales."""
        return int(self.genes[-1]) + 1 if len(self.genes) else 0

    def squared_distances(self) -> FloatArray:
        """Between all pairs of rows, gene by gene: float64 ``(G, N, N)``."""
        out = np.zeros((self.n_genes, len(self.points), len(self.points)))
        for column, gene in zip(self.points.T, self.genes, strict=True):
            out[gene] += np.subtract.outer(column, column) ** 2
        return out


@final
@dataclass(frozen=True)
class GaussianProcess:
    """The posterior of a function after noisy observations; values are standardised inside.

    Use `fit`.

    Attributes:
        features: of the observed genomes, ``(N, D)``.
        log_parameters: logarithms of G length scales, signal variance and noise variance; a start for the next fit.
    """

    features: GeneFeatures
    log_parameters: FloatArray
    _mean: float
    _spread: float
    _factor: FloatArray
    _weights: FloatArray

    @classmethod
    def fit(
        cls,
        features: GeneFeatures,
        values: FloatArray,
        *,
        start: FloatArray | None = None,
        distances: FloatArray | None = None,
    ) -> GaussianProcess:
        """The process with the most probable hyper-parameters.

        Args:
            features: of N > 0 genomes.
            values: observed there, float64 ``(N,)``, finite.
            start: `log_parameters` of an earlier fit.
            distances: ``features.squared_distances()``, when several functions are fitted to the same genomes.
        """
        y, _, _ = _standardised(values)
        squared = features.squared_distances() if distances is None else distances
        prior_mean = np.array(
            [SCALE_MEAN + 0.5 * math.log(max(features.n_genes, 1))] * features.n_genes + [0.0, NOISE_MEAN]
        )
        prior_spread = np.array([SCALE_SPREAD] * features.n_genes + [SIGNAL_SPREAD, NOISE_SPREAD])
        varied = np.flatnonzero(squared.reshape(features.n_genes, -1).any(axis=1))  # the others keep their prior mean
        free = np.concatenate([varied, [features.n_genes, features.n_genes + 1]]).astype(np.intp)
        flat = squared[varied].reshape(len(varied), len(y) ** 2)

        def loss(theta: FloatArray) -> tuple[float, FloatArray]:
            """Negative logarithm of the posterior density, and its gradient."""
            precision = np.exp(-2.0 * theta[:-2])
            r = np.sqrt((precision @ flat).reshape(len(y), len(y)))
            decay = np.exp(-math.sqrt(5.0) * r)
            signal, noise = np.exp(theta[-2:])
            kernel = signal * (1.0 + math.sqrt(5.0) * r + 5.0 / 3.0 * r**2) * decay
            try:
                factor = cholesky(kernel + (noise + JITTER) * np.eye(len(y)), lower=True)
            except LinAlgError:
                return 1e25, np.zeros_like(theta)
            inverse = cho_solve((factor, True), np.eye(len(y)))
            alpha = inverse @ y
            inner = inverse - np.outer(alpha, alpha)  # d loss / d kernel, times 2
            # d kernel / d log l_g = signal * 5/3 * (1 + sqrt(5) r) * exp(-sqrt(5) r) * d_g**2 / l_g**2
            weight = inner * (5.0 / 3.0 * signal) * (1.0 + math.sqrt(5.0) * r) * decay
            gradient = np.concatenate(
                [0.5 * precision * (flat @ weight.ravel()), [0.5 * (inner * kernel).sum(), 0.5 * noise * inner.trace()]]
            )
            z = (theta - prior_mean[free]) / prior_spread[free]
            value = 0.5 * y @ alpha + np.log(np.diag(factor)).sum() + 0.5 * z @ z
            return float(value), gradient + z / prior_spread[free]

        first = prior_mean if start is None or len(start) != len(prior_mean) else start
        found = minimize(
            loss,
            first[free],
            jac=True,
            method="L-BFGS-B",
            bounds=[LOG_BOUNDS] * len(free),
            options={"maxiter": MOST_ITERATIONS},
        )
        theta = prior_mean.copy()
        theta[free] = found.x
        return cls.given(features, values, theta)

    @classmethod
    def given(cls, features: GeneFeatures, values: FloatArray, log_parameters: FloatArray) -> GaussianProcess:
        """The process with hyper-parameters of another fit, e.g. to a part of the rows.

        Args:
            features: of N > 0 genomes.
            values: observed there, float64 ``(N,)``, finite.
            log_parameters: of a process with the same genes.
        """
        y, mean, spread = _standardised(values)
        points, signal = features.points, math.exp(log_parameters[-2])
        kernel = _kernel(points, points, np.exp(log_parameters[:-2])[features.genes], signal)
        factor = cholesky(kernel + (np.exp(log_parameters[-1]) + JITTER) * np.eye(len(y)), lower=True)
        return cls(features, log_parameters, mean, spread, factor, cho_solve((factor, True), y))

    def mean(self, points: FloatArray) -> FloatArray:
        """Expected values at `points` ``(P, D)``, float64 ``(P,)``."""
        values: FloatArray = self._mean + self._spread * (self._covariance(points) @ self._weights)
        return values

    def draws(self, points: FloatArray, standard: FloatArray) -> FloatArray:
        """Joint draws of the function, without noise, at `points` ``(P, D)``.

        Args:
            points: features of P genomes.
            standard: standard normal numbers ``(S, P)``; equal numbers give comparable draws of different functions.
        Returns:
            float64 ``(S, P)``.
        """
        cross = self._covariance(points)
        half = solve_triangular(self._factor, cross.T, lower=True)
        covariance = self._between(points, points) - half.T @ half
        covariance[np.diag_indices(len(points))] += 1e-6 * math.exp(self.log_parameters[-2])
        try:
            root = cholesky(covariance, lower=True)
        except LinAlgError:  # rounding error of nearly equal points
            values, vectors = np.linalg.eigh(covariance)
            root = vectors * np.sqrt(np.maximum(values, 0.0))
        drawn: FloatArray = self._mean + self._spread * (cross @ self._weights + standard @ root.T)
        return drawn

    def _covariance(self, points: FloatArray) -> FloatArray:
        return self._between(points, self.features.points)

    def _between(self, a: FloatArray, b: FloatArray) -> FloatArray:
        scales = np.exp(self.log_parameters[:-2])[self.features.genes]
        return _kernel(a, b, scales, math.exp(self.log_parameters[-2]))


def _standardised(values: FloatArray) -> tuple[FloatArray, float, float]:
    """Values with mean 0 and standard deviation 1, and the mean and standard deviation that they had."""
    mean, spread = float(values.mean()), float(values.std())
    spread = spread if spread > 1e-12 else 1.0
    return (values - mean) / spread, mean, spread


def _kernel(a: FloatArray, b: FloatArray, scales: FloatArray, signal: float) -> FloatArray:
    """The Matérn 5/2 kernel between points ``(P, D)`` and ``(Q, D)`` with a scale per column."""
    a, b = a / scales, b / scales
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2.0 * (a @ b.T)
    r = math.sqrt(5.0) * np.sqrt(np.maximum(squared, 0.0))
    kernel: FloatArray = signal * (1.0 + r + r**2 / 3.0) * np.exp(-r)
    return kernel


def rank_correlation(predicted: FloatArray, measured: FloatArray) -> float:
    """Spearman's rank correlation; 0.0 for constant or fewer than 3 values."""
    from scipy.stats import rankdata  # half a second to import

    if len(measured) < 3 or np.ptp(measured) == 0 or np.ptp(predicted) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(predicted), rankdata(measured))[0, 1])
