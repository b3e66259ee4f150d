from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evorec.data.statistics import LARGEST, PRIOR_ROWS, History, statistics

ROUNDING = 1e-4  # float32 values up to 5, standardised in another order of summation


def test_training_rows_see_earlier_days_only_and_the_others_everything() -> None:
    rng = np.random.default_rng(0)
    n, n_codes = 60, 5
    codes, days = rng.integers(0, n_codes, n), rng.integers(0, 6, n)
    labels = rng.integers(0, 2, (n, 2)).astype(np.float32)
    labels[rng.random((n, 2)) < 0.2] = np.nan
    served = np.arange(n_codes + 1)  # the last code has no training row
    history = History("user", "user", codes, codes[:7], served)
    found = statistics([history], days, labels, ("a", "b"), n_users=n_codes, n_items=3)

    base = np.nanmean(labels, axis=0)

    def slow(rows: npt.NDArray[np.bool_]) -> list[float]:
        out = [float(np.log1p(rows.sum()))]
        for task in range(2):
            seen = labels[rows, task][~np.isnan(labels[rows, task])]
            yes, no = seen.sum() + PRIOR_ROWS * base[task], (1 - seen).sum() + PRIOR_ROWS * (1 - base[task])
            out.append(float(np.log(yes / no)))
        return out

    train = np.array([slow((codes == codes[row]) & (days < days[row])) for row in range(n)])
    mean, spread = train.mean(axis=0), train.std(axis=0)
    users = np.array([slow(codes == code) for code in served])
    for values, expected in ((found.train, train), (found.users, users), (found.held_out, users[codes[:7]])):
        np.testing.assert_allclose(values, np.clip((expected - mean) / spread, -LARGEST, LARGEST), atol=ROUNDING)
    assert found.names == ("user:rows", "user:a", "user:b")
    assert found.items.shape == (4, 0)


def test_a_rows_own_label_cannot_reach_its_statistics() -> None:
    codes, days = np.zeros(6, np.int64), np.array([0, 0, 1, 1, 2, 2])
    labels = np.array([[1], [0], [1], [0], [0], [1]], dtype=np.float32)
    swapped = labels.copy()
    swapped[4:] = 1 - labels[4:]  # the same average, other labels on the last day
    history = History("item", "item", codes, codes[:1], codes[:2])
    first, second = (statistics([history], days, some, ("a",), n_users=1, n_items=1) for some in (labels, swapped))
    np.testing.assert_array_equal(first.train, second.train)
