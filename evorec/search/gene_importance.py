"""Which genes drive which objective.

The importance of a gene is its total effect (Homma & Saltelli 1996): the share of an objective's variance that depends
on the gene, by itself or together with others, while every gene varies independently over the values that it had in the
evaluated genomes. It is that of the surrogate, a Gaussian process with a length scale per gene, because the genes of
evaluated genomes are not independent: a search proposes good values together. How well the surrogate knows the
objective is measured on genomes that it did not see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from evorec.errors import DataError
from evorec.objectives import FloatArray, Metrics, Objective
from evorec.search.surrogate.gaussian_process import GaussianProcess, GeneFeatures, rank_correlation
from evorec.search.surrogate.model import HIGH, LOW, gene_features
from evorec.seeds import generator
from evorec.space.gene import Value
from evorec.space.genes import Boolean, Categorical, OrderedGene
from evorec.space.observed import encoded, observed_space
from evorec.space.space import SearchSpace

LEAST_ROWS: Final = 20
"""Genomes of an analysis; a fold of the cross-validation then has 4."""
FOLDS: Final = 5
LEAST_SKILL: Final = 0.3
"""Rank correlation on unseen genomes below which no importance is shown. Of 64 genomes without any relation, fewer than
1 in 20 sets reach it by chance."""
DRAWS: Final = 512
"""Genomes with independent genes, in which each gene is then changed. Errors of shares are about 2 % with 40 genes."""
FITTED_ROWS: Final = 200
"""Rows to which hyper-parameters are fitted; all rows have a part in the predictions."""
FARTHEST: Final = 3.0
"""Standardised objectives are clipped to this: a diverged candidate is bad, how bad is noise."""
QUARTERS: Final = 4
"""Parts into which the values of a gene are divided to say which are best, unless it has fewer values."""
FLAT: Final = 1e-9
"""Variance of the predictions, of standardised values, below which no gene matters."""


@final
@dataclass(frozen=True)
class GeneImportance:
    """Importance of all genes for an objective.

    Attributes:
        objective: its name.
        n_rows: genomes on which it was measured.
        skill: rank correlation of prediction and measurement on genomes that the model did not see; ``None`` where
            there was nothing to predict.
        shares: share of the variance that depends on the gene, in [0, 1], largest first. Genes that act together are
            counted for each of them, so the sum may exceed 1. Empty where `reason` says why.
        best: the quarter of the values, or the option, with the best mean of the objective, in words; without genes
            whose values are weights.
        exact: whether the objective is known without an evaluation, so no model is needed.
        reason: why nothing is shown; empty otherwise.
    """

    objective: str
    n_rows: int
    skill: float | None
    shares: Mapping[str, float] = field(default_factory=dict)
    best: Mapping[str, str] = field(default_factory=dict)
    exact: bool = False
    reason: str = ""


def gene_importance(
    specs: Sequence[Mapping[str, Any]],
    metrics: Sequence[Metrics],
    objectives: Sequence[Objective],
    *,
    worlds: Sequence[str] | None = None,
    space: SearchSpace | None = None,
    known_metrics: Callable[[Mapping[str, Any]], Metrics] | None = None,
    seed: int = 0,
) -> list[GeneImportance]:
    """Importance of each gene for each objective.

    Args:
        specs: N genomes that were trained to the end, decoded.
        metrics: of each genome; a genome without the metric of an objective has no part in that objective.
        objectives: M objectives.
        worlds: the world of each genome, if they were measured in several: values are standardised in each world, and
            the skill is that on worlds that the model did not see. By default a single world.
        space: of the genomes; by default the space that they show (`observed_space`).
        known_metrics: metrics of a spec that are known without an evaluation (`Problem.known_metrics`).
        seed: of the draws and of the division into folds.
    Returns:
        An entry per objective, in order.
    Raises:
        DataError: there are fewer than `LEAST_ROWS` genomes.
    Source: total effect by Jansen 1999, with the product of the observed distributions as the input distribution.
        Optuna's fANOVA and PED-ANOVA take the genes of a random forest, or of the best quantile, one by one; here
        skill is comparable with that of the surrogate that steers the search. Cost: about .5 s for 100 genomes, 40
        genes and 4 objectives.
    Example:
        >>> specs = [{"rate": rate / 10, "width": width} for rate in range(10) for width in (8, 16, 32)]
        >>> rows = [{"accuracy": spec["rate"]} for spec in specs]
        >>> accuracy = Objective("accuracy", "accuracy", "max", "", ideal=1.0, worst=0.0)
        >>> [found] = gene_importance(specs, rows, [accuracy])
        >>> found.skill > 0.9, round(found.shares["rate"], 1), round(found.shares["width"], 1)
        (True, 1.0, 0.0)
    """
    check_rows(len(specs))
    space = observed_space(specs) if space is None else space
    X, has = encoded(space, specs)
    features = gene_features(space, X)
    groups = np.unique(["" for _ in specs] if worlds is None else list(worlds), return_inverse=True)[1].reshape(-1)
    names, drawn = _independent(space, X, has, generator(seed, "independent genes"))
    inputs = [gene_features(space, genomes).points for genomes in drawn]
    known = {} if known_metrics is None else known_metrics(space.decode(X[0]))
    found = []
    for objective in objectives:
        points = objective.normalised([row.get(objective.metric, np.nan) for row in metrics]).clip(LOW, HIGH)
        rows = np.flatnonzero(np.isfinite(points))
        name, n = objective.name, len(rows)
        if n < LEAST_ROWS:
            found.append(GeneImportance(name, n, None, reason=f"only {n} genomes have it, {LEAST_ROWS} are needed"))
            continue
        values = _standardised(points[rows], groups[rows])
        if not np.ptp(values) > 0:
            found.append(GeneImportance(name, n, None, reason="it has the same value for every genome"))
        elif known_metrics is not None and objective.metric in known:
            exact = [
                objective.normalised([known_metrics(space.decode(x))[objective.metric] for x in genomes])
                for genomes in drawn
            ]
            best = _best_values(space, names, drawn[0], exact[0])
            found.append(GeneImportance(name, n, 1.0, _total_effects(names, exact), best, exact=True))
        else:
            process = _fitted(_rows(features, rows), values)
            skill = _skill(_rows(features, rows), values, groups[rows], process, seed)
            if skill < LEAST_SKILL:
                unseen = "genomes" if worlds is None else "worlds"
                reason = (
                    f"the model orders unseen {unseen} with a rank correlation of {skill:.2f}, "
                    f"and {LEAST_SKILL:.2f} is needed"
                )
                found.append(GeneImportance(name, n, skill, reason=reason))
                continue
            outputs = [process.mean(points) for points in inputs]
            best = _best_values(space, names, drawn[0], outputs[0])
            found.append(GeneImportance(name, n, skill, _total_effects(names, outputs), best))
    return found


def check_rows(n: int) -> None:
    """Refuse an analysis of too few genomes.

    Raises:
        DataError: there are fewer than `LEAST_ROWS`.
    """
    if n < LEAST_ROWS:
        raise DataError(
            f"the importance of genes needs at least {LEAST_ROWS} genomes that were trained to the end, got {n}; "
            "continue the search, e.g. evorec resume RUN --generations N."
        )


def _independent(
    space: SearchSpace, X: FloatArray, has: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[list[str], list[FloatArray]]:
    """Genomes with independent genes, and for each gene that varies the same genomes with a new value of it.

    A gene has the values of the genomes that have it. Genes are drawn whether they are active or not, and inactive
    genes are set to their default afterwards, so a gene counts where a changed parent activates it.

    Args:
        space: of the genomes.
        X: snapped genomes ``(N, V)``.
        has: which genes each genome has, bool ``(N, n_genes)``.
        rng: source of randomness.
    Returns:
        Names of the G genes that vary, and 1 + G matrices ``(DRAWS, V)``, first that without a change.
    """
    from scipy.stats.qmc import Sobol  # a second to import

    values = {gene.name: X[has[:, index], space.slices[gene.name]] for index, gene in enumerate(space.genes)}
    values = {name: own[np.lexsort(own.T)] for name, own in values.items() if own.size and np.ptp(own, axis=0).any()}
    uniform = Sobol(2 * max(len(values), 1), seed=rng).random(DRAWS)
    parts = {
        name: tuple(own[(uniform[:, column] * len(own)).astype(np.intp)] for column in (2 * index, 2 * index + 1))
        for index, (name, own) in enumerate(values.items())
    }
    default = space.default()
    base = np.tile(default, (DRAWS, 1))
    for name, (drawn, _) in parts.items():
        base[:, space.slices[name]] = drawn
    out = [base]
    for name, (_, other) in parts.items():
        changed = base.copy()
        changed[:, space.slices[name]] = other
        out.append(changed)
    for genomes in out:  # all values are on the grid already, so `SearchSpace.snap` would only repeat a slow rounding
        active = space.active(genomes)
        for index, gene in enumerate(space.genes):
            columns = space.slices[gene.name]
            genomes[~active[:, index], columns] = default[columns]
    return list(parts), out


def _total_effects(names: Sequence[str], outputs: Sequence[FloatArray]) -> dict[str, float]:
    """Share of the variance that depends on each gene, largest first.

    Args:
        names: of G genes.
        outputs: of a function at the genomes of `_independent`, 1 + G arrays ``(DRAWS,)``.
    """
    before, *after = outputs
    variance = float(np.concatenate(outputs).var())
    effects = [float(((changed - before) ** 2).mean()) / 2.0 for changed in after]
    shares = [min(effect / variance, 1.0) if variance > FLAT else 0.0 for effect in effects]
    return dict(sorted(zip(names, shares, strict=True), key=lambda pair: -pair[1]))


def _best_values(space: SearchSpace, names: Sequence[str], X: FloatArray, values: FloatArray) -> dict[str, str]:
    """Values of each gene at which a function is lowest on average, in words."""
    active, out = space.active(X), {}
    for name in names:
        gene, rows = space.gene(name), np.flatnonzero(active[:, space.names.index(name)])
        if not isinstance(gene, OrderedGene | Categorical | Boolean):
            continue
        column = X[rows, space.slices[name]].ravel()
        known = np.unique(column)
        parts = np.split(known, np.arange(1, len(known)))
        if isinstance(gene, OrderedGene) and len(known) > QUARTERS:  # each with a quarter of the genomes
            edges = np.quantile(column, np.linspace(0, 1, QUARTERS + 1)[1:-1])
            parts = [part for part in np.split(known, np.searchsorted(known, edges, side="right")) if len(part)]
        means = [values[rows[(column >= part[0]) & (column <= part[-1])]].mean() for part in parts]
        best = parts[int(np.argmin(means))]
        first, last = (_word(gene.decode(np.array([end]))) for end in (best[0], best[-1]))
        out[name] = first if first == last else f"{first} to {last}"
    return out


def _word(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


def _skill(
    features: GeneFeatures, values: FloatArray, groups: NDArray[np.intp], start: GaussianProcess, seed: int
) -> float:
    """Rank correlation on genomes, or worlds, that a model did not see; over several worlds their mean."""
    worlds = np.unique(groups)
    units = np.unique(groups if len(worlds) > 1 else np.arange(len(values)), return_inverse=True)[1].reshape(-1)
    n_units = int(units.max()) + 1
    fold = (generator(seed, "folds").permutation(n_units) % min(FOLDS, n_units))[units]
    predicted = np.empty(len(values))
    for number in np.unique(fold):
        seen, unseen = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        process = _fitted(_rows(features, seen), values[seen], start.log_parameters)
        predicted[unseen] = process.mean(features.points[unseen])
    return float(np.mean([rank_correlation(predicted[groups == w], values[groups == w]) for w in worlds]))


def _fitted(features: GeneFeatures, values: FloatArray, start: FloatArray | None = None) -> GaussianProcess:
    n = len(values)
    some = np.linspace(0, n - 1, min(FITTED_ROWS, n)).round().astype(np.intp)
    fitted = GaussianProcess.fit(_rows(features, some), values[some], start=start)
    return fitted if n <= FITTED_ROWS else GaussianProcess.given(features, values, fitted.log_parameters)


def _rows(features: GeneFeatures, rows: NDArray[np.intp]) -> GeneFeatures:
    return GeneFeatures(features.points[rows], features.genes)


def _standardised(points: FloatArray, groups: NDArray[np.intp]) -> FloatArray:
    """Values with mean 0 and standard deviation 1 in each world."""
    out = np.zeros(len(points))
    for world in np.unique(groups):
        part = points[groups == world]
        out[groups == world] = np.clip((part - part.mean()) / (part.std() or 1.0), -FARTHEST, FARTHEST)
    return out
