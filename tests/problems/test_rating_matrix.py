import numpy as np
import pytest
from scipy.stats import kstest

from evorec.data.tables import Columns
from problems.rating_matrix import RatingMatrixConfig, simulate

USERS, ITEMS, RANK = 300, 200, 4
NEVER_BY_CHANCE = 1e-4  # p-value below which N(0, 1) would be refused
ROUNDING = 1e-5  # of ratings in float32 against singular values of a few hundred, relative


def matrix(**changes: float) -> np.ndarray:
    """Ratings ``(U, I)``, NaN where there is none."""
    settings = {"n_users": USERS, "n_items": ITEMS, "n_factors": RANK, **changes}
    log = simulate(RatingMatrixConfig.model_validate(settings)).interactions
    out = np.full((USERS, ITEMS), np.nan)
    out[log[Columns.USER].to_numpy(), log[Columns.ITEM].to_numpy()] = log["rating"].to_numpy()
    assert np.isfinite(out).sum() == log.height, "a cell is rated once"
    np.testing.assert_array_equal(log["liked"].to_numpy() > 0, log["rating"].to_numpy() > 0)
    return out


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_single_ratings_are_standard_normal_for_every_signal_share(share: float) -> None:
    """Ratings of a user share the vector of the user, so a test of independent numbers takes a rating per user."""
    ratings = np.concatenate([np.diagonal(matrix(missing_share=0, signal_share=share, seed=seed)) for seed in range(5)])
    assert kstest(ratings, "norm").pvalue > NEVER_BY_CHANCE


def test_cells_are_empty_with_probability_p() -> None:
    for p in (0.3, 0.9):
        empty = np.isnan(matrix(missing_share=p)).mean()
        assert abs(empty - p) < 4 * np.sqrt(p * (1 - p) / (USERS * ITEMS))


def test_without_noise_the_rank_is_that_of_the_factors() -> None:
    values = np.linalg.svd(matrix(missing_share=0, signal_share=1.0), compute_uv=False)
    assert values[RANK - 1] > 10
    assert values[RANK] < ROUNDING * values[0]


def test_the_signal_is_the_stated_share_of_the_variance() -> None:
    """The best factorisation of that rank leaves the noise: 1 - s of the variance, less what it fits of the noise."""
    full = matrix(missing_share=0, signal_share=0.7)
    u, values, v = np.linalg.svd(full, full_matrices=False)
    left = full - (u[:, :RANK] * values[:RANK]) @ v[:RANK]
    fitted = RANK * (USERS + ITEMS - RANK) / (USERS * ITEMS)  # parameters per cell
    assert abs(left.var() / (0.3 * (1 - fitted)) - 1) < 0.05


def test_pure_noise_has_no_direction() -> None:
    """The largest singular value of an N(0, 1) matrix is about sqrt(U) + sqrt(I) (Marchenko and Pastur 1967)."""
    values = np.linalg.svd(matrix(missing_share=0, signal_share=0.0), compute_uv=False)
    assert abs(values[0] / (np.sqrt(USERS) + np.sqrt(ITEMS)) - 1) < 0.05
