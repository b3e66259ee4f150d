"""The gate lets noise through as rarely as it says, and a real loss never."""

from dataclasses import replace

import numpy as np
import pytest

from evorec.deploy.gate import Figure, SeedNoise, Verdict, compare, decide, decide_first
from evorec.errors import DataError

USERS, SEED_STD = 800, 0.004


def night(rng, change=0.0, seed_std=SEED_STD):
    """Recalls of a champion and of a challenger that is trained with another seed, and is better by `change`."""
    taste = rng.beta(1, 5, USERS)
    shifts = rng.normal(0, SEED_STD, 2)
    hits = [np.clip(taste + shift + rng.normal(0, 0.05, USERS), 0, 1) for shift in (shifts[0], shifts[1] + change)]
    return Figure("recall@20", *hits, SeedNoise(seed_std))


def test_a_champion_with_another_seed_is_hardly_ever_promoted():
    rng = np.random.default_rng(0)
    verdicts = [decide([night(rng)], seed=number).verdict for number in range(100)]
    assert verdicts.count(Verdict.PROMOTE) <= 5
    # Without the noise of the seed the intervals are too narrow.
    rng = np.random.default_rng(0)
    naive = [decide([night(rng, seed_std=0.0)], seed=number).verdict for number in range(100)]
    assert naive.count(Verdict.PROMOTE) > 5


def test_a_planted_loss_is_never_promoted_and_a_planted_gain_is():
    rng = np.random.default_rng(1)
    losses = [decide([night(rng, -0.03)], seed=number).verdict for number in range(50)]
    assert Verdict.PROMOTE not in losses
    assert losses.count(Verdict.REJECT) > 45
    gains = [decide([night(rng, 0.03)], seed=number).verdict for number in range(50)]
    assert gains.count(Verdict.PROMOTE) > 45


def test_a_guarded_figure_must_not_fall():
    rng = np.random.default_rng(2)
    better, users = night(rng, 0.05), rng.random(USERS)
    worse = Figure("ild@20", users, users - 0.1)
    found = decide([better], [worse], seed=0)
    assert found.verdict is Verdict.REJECT
    assert [row.outcome for row in found.comparisons] == ["win", "loss"]
    assert found.reasons[0].startswith("ild@20 ")
    same = Figure("ild@20", users, users)
    assert decide([better], [same], seed=0).verdict is Verdict.PROMOTE
    # A gain of a guard alone promotes nothing.
    assert decide([same], [better], seed=0).verdict is Verdict.HOLD


def test_what_cannot_be_served_is_rejected_with_the_reason():
    found = decide([night(np.random.default_rng(3), 0.05)], seed=0, refusals=["the bundle is damaged"])
    assert (found.verdict, found.reasons) == (Verdict.REJECT, ("the bundle is damaged",))
    assert found.to_json()["comparisons"][0]["outcome"] == "win"


def test_both_noises_add_in_squares():
    rng = np.random.default_rng(4)
    users = rng.random(500)
    of_users = compare(Figure("r", users, users + rng.normal(0, 0.1, 500)), seed=0)
    both = compare(Figure("r", users, users + rng.normal(0, 0.1, 500) * 0, SeedNoise(0.01)), seed=0)
    assert of_users.high - of_users.low == pytest.approx(2 * 1.96 * 0.1 / np.sqrt(500), rel=0.1)
    assert both.high == pytest.approx(1.96 * np.sqrt(2) * 0.01, rel=1e-3)


def test_a_spread_that_two_seeds_estimated_promotes_as_little_as_a_known_spread():
    rng, found, naive = np.random.default_rng(5), [], []
    for number in range(100):
        spread = float(rng.normal(0, SEED_STD, 2).std(ddof=1))
        figure = night(rng)
        found.append(decide([replace(figure, noise=SeedNoise(spread, 1))], seed=number).verdict)
        naive.append(decide([replace(figure, noise=SeedNoise(spread))], seed=number).verdict)
    assert found.count(Verdict.PROMOTE) <= 5 < naive.count(Verdict.PROMOTE)
    # Of 2 and 4 degrees of freedom the second counts twice: (2 * 1 + 4 * 4) / 6 = 3.
    pooled = SeedNoise.pooled([SeedNoise(1.0, 2), SeedNoise(2.0, 4), SeedNoise(9.0, 0)])
    assert (pooled.std, pooled.freedom) == (pytest.approx(np.sqrt(3)), 6)
    assert pooled.half_width == pytest.approx(2.446912 * np.sqrt(6), rel=1e-6)  # Student's t with 6, 97.5 %


def test_the_first_challenger_must_beat_the_baselines():
    baselines = {"popularity": {"recall@20": 0.1}, "ease": {"recall@20": 0.2}, "boosting": {"auc": 0.9}}
    assert decide_first({"recall@20": 0.21}, baselines, "recall@20").verdict is Verdict.PROMOTE
    found = decide_first({"recall@20": 0.2}, baselines, "recall@20")
    assert (found.verdict, found.reasons) == (Verdict.REJECT, ("recall@20 0.2000, ease 0.2000",))
    with pytest.raises(DataError, match="has no figure recall@20; it has auc"):
        decide_first({"auc": 0.5}, baselines, "recall@20")


@pytest.mark.parametrize(
    ("figures", "match"),
    [
        ([], "at least 1 figure"),
        ([Figure("r", np.zeros(3), np.zeros(4))], "the same users"),
        ([Figure("r", np.zeros(3), np.full(3, np.nan))], "must be finite"),
        ([Figure("r", np.zeros(3), np.zeros(3), SeedNoise(np.nan))], "between seeds of r must be >= 0, got nan"),
    ],
)
def test_figures_that_cannot_be_compared_are_refused(figures, match):
    with pytest.raises(DataError, match=match):
        decide(figures, seed=0)
