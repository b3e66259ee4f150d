"""Whether a new model replaces the one that is served: both on the same held-out rows, beyond chance and seed.

Champion and challenger answer the same users. A figure has changed only if its interval leaves zero, and the interval
takes in both kinds of noise: other users (paired bootstrap) and another seed of the training. The challenger is
promoted if a target improves and no figure falls; it is rejected if any figure falls; else the champion stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, final

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError
from evorec.metrics.compare import paired_bootstrap

Float64 = npt.NDArray[np.float64]

NORMAL_95 = 1.959964
"""Half the width of a 95 % interval in standard deviations."""


@final
@dataclass(frozen=True)
class SeedNoise:
    """Spread of a mean over users between trainings that differ in their seed only.

    Attributes:
        std: standard deviation.
        freedom: degrees of freedom of its estimate: trainings minus 1, summed over members and nights; 0 = it is known
            exactly.
    """

    std: float = 0.0
    freedom: int = 0

    @classmethod
    def pooled(cls, estimates: Iterable[SeedNoise]) -> SeedNoise:
        """A single estimate from those of several members or nights, by their degrees of freedom.

        Example:
            >>> SeedNoise.pooled([SeedNoise(3.0, 2), SeedNoise(4.0, 2)])
            SeedNoise(std=3.5355339059327378, freedom=4)
        """
        known = [one for one in estimates if one.freedom > 0]
        freedom = sum(one.freedom for one in known)
        if not freedom:
            return cls()
        return cls(math.sqrt(sum(one.freedom * one.std**2 for one in known) / freedom), freedom)

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of the difference of two trainings.

        Student's t: two or three seeds know their spread badly, and its normal quantile would promote noise.
        """
        from scipy.stats import t

        quantile = float(t.ppf(0.975, self.freedom)) if self.freedom else NORMAL_95
        return quantile * math.sqrt(2) * self.std


class Verdict(StrEnum):
    """What happens to a challenger."""

    PROMOTE = "PROMOTE"
    HOLD = "HOLD"
    REJECT = "REJECT"


@final
@dataclass(frozen=True)
class Figure:
    """A figure of both models, higher is better, on the same users.

    Attributes:
        name: such as ``recall@20``.
        champion, challenger: a value per user, ``(U,)`` each, in the same order.
        noise: between trainings that differ in their seed only.
    """

    name: str
    champion: Float64
    challenger: Float64
    noise: SeedNoise = SeedNoise()


@final
@dataclass(frozen=True)
class Comparison:
    """A figure of both models, and how much it has changed.

    Attributes:
        name: of the figure.
        champion, challenger: means over users.
        low, high: interval of the difference, challenger minus champion, with the noise of users and of the seed.
        outcome: ``win`` if it is above 0, ``loss`` if it is below, else ``tie``.
    """

    name: str
    champion: float
    challenger: float
    low: float
    high: float

    @property
    def outcome(self) -> str:
        """``win``, ``tie`` or ``loss``."""
        return "win" if self.low > 0 else "loss" if self.high < 0 else "tie"


@final
@dataclass(frozen=True)
class Decision:
    """A verdict with its reasons.

    Attributes:
        verdict: what happens.
        comparisons: of all figures.
        reasons: in words, at least one.
    """

    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        rows = [{**asdict(row), "outcome": row.outcome} for row in self.comparisons]
        return {"verdict": self.verdict.value, "comparisons": rows, "reasons": list(self.reasons)}


def compare(figure: Figure, *, seed: int, resamples: int = 2000) -> Comparison:
    """The difference of a figure with its interval of 95 %.

    Args:
        figure: of both models.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    Raises:
        DataError: the values are not finite, or those of different users.
    """
    std = figure.noise.std
    if not 0 <= std < math.inf:
        raise DataError(f"the standard deviation between seeds of {figure.name} must be >= 0, got {std}.")
    found = paired_bootstrap(figure.challenger, figure.champion, seed=seed, resamples=resamples)
    # Two trainings, so the variance of the seed counts twice. Independent noises add in squares.
    of_seeds = figure.noise.half_width
    middle = found.mean_difference
    return Comparison(
        figure.name,
        float(figure.champion.mean()),
        float(figure.challenger.mean()),
        middle - math.hypot(middle - found.low, of_seeds),
        middle + math.hypot(found.high - middle, of_seeds),
    )


def decide(
    targets: Sequence[Figure],
    guards: Sequence[Figure] = (),
    *,
    seed: int,
    refusals: Sequence[str] = (),
) -> Decision:
    """The verdict on a challenger.

    Args:
        targets: figures of which one must improve; each is a guard, too.
        guards: figures that must not fall.
        seed: of the bootstrap.
        refusals: reasons found elsewhere why the challenger cannot be served, such as a bundle that does not load.
    Returns:
        ``PROMOTE`` if a target wins and nothing loses, ``REJECT`` if anything loses or there is a refusal, else
        ``HOLD``.
    Raises:
        DataError: there is no target, or the values of a figure cannot be compared.
    Example:
        >>> users = np.linspace(0.1, 0.3, 200)
        >>> decide([Figure("recall@20", users, users + 0.01)], seed=0).verdict
        <Verdict.PROMOTE: 'PROMOTE'>
    """
    if not targets:
        raise DataError("a challenger needs at least 1 figure that may improve, got none.")
    rows = tuple(compare(figure, seed=seed) for figure in (*targets, *guards))
    losses = [_in_words(row) for row in rows if row.outcome == "loss"]
    wins = [_in_words(row) for row in rows[: len(targets)] if row.outcome == "win"]
    if refusals or losses:
        return Decision(Verdict.REJECT, rows, (*refusals, *losses))
    if wins:
        return Decision(Verdict.PROMOTE, rows, tuple(wins))
    names = ", ".join(row.name for row in rows[: len(targets)])
    return Decision(Verdict.HOLD, rows, (f"no difference beyond noise in {names}",))


def decide_first(values: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]], target: str) -> Decision:
    """The verdict on a challenger without a champion: it must beat every baseline.

    Args:
        values: figures of the challenger by name, higher is better.
        baselines: the same of each baseline.
        target: the figure that counts.
    Raises:
        DataError: the challenger has no such figure.
    """
    if target not in values:
        raise DataError(f"the challenger has no figure {target}; it has {', '.join(sorted(values))}.")
    known = {name: own[target] for name, own in baselines.items() if target in own}
    ahead = {name: value for name, value in known.items() if value >= values[target]}
    if ahead:
        reasons = [f"{target} {values[target]:.4f}, {name} {value:.4f}" for name, value in ahead.items()]
        return Decision(Verdict.REJECT, (), tuple(reasons))
    return Decision(
        Verdict.PROMOTE, (), (f"{target} {values[target]:.4f} is above {', '.join(known) or 'no baseline'}",)
    )


def _in_words(row: Comparison) -> str:
    change = row.challenger - row.champion
    return (
        f"{row.name} {row.champion:.4f} -> {row.challenger:.4f} ({change:+.4f}, 95 % {row.low:+.4f}..{row.high:+.4f})"
    )
