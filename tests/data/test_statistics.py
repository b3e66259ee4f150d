from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from evorec.data.dataset import Field, Part
from evorec.data.features import FieldRows
from evorec.data.statistics import LARGEST, PRIOR_ROWS, History, Sides, history, statistics
from evorec.errors import ConfigError

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


def part(users: list[int], items: list[int], pages: list[int]) -> Part:
    nothing = np.zeros((len(users), 0), dtype=np.float32)
    target = np.zeros(len(users), dtype=np.float32)
    time = np.zeros(len(users), dtype=np.int64)
    return Part(np.array(users), np.array(items), np.array(pages)[:, None], nothing, nothing, target, time)


def field_rows(name: str, feature: str, rows: list[list[int]]) -> FieldRows:
    fields = (Field(name, 0, 1), Field(feature, 1, 1))
    return FieldRows(np.array(rows), np.ones((len(rows), 2), dtype=np.float32), fields)


SIDES = Sides(  # two users and an unknown one, likewise items; pages 20 and 21, of which 21 is the usual one
    field_rows("user_id", "city", [[2, 6], [3, 6], [1, 5]]),
    field_rows("item_id", "kind", [[11, 15], [12, 16], [10, 14]]),
    (Field("page", 0, 1),),
    np.array([21]),
)
TRAIN = part([0, 1, 0, 1], [0, 1, 1, 0], [20, 20, 21, 21])
HELD_OUT = part([1, 2], [2, 0], [20, 21])


@pytest.mark.parametrize(
    ("key", "side", "train", "held_out", "served"),
    [
        ("user", "user", "abab", "bc", "abc"),
        ("item", "item", "abba", "ca", "abc"),
        ("city", "user", "aaaa", "ac", "aac"),
        ("kind", "item", "abba", "ca", "abc"),
        ("page", "user", "aabb", "ab", "bbb"),
        ("user+page", "user", "abcd", "be", "cde"),
        (" city + page ", "user", "aacc", "ae", "cce"),
        ("item + kind", "item", "abba", "ca", "abc"),
    ],
)
def test_rows_share_a_code_exactly_where_they_share_the_key(
    key: str, side: str, train: str, held_out: str, served: str
) -> None:
    found = history(key, SIDES, TRAIN, HELD_OUT)
    assert (found.name, found.side) == (key, side)
    codes = np.concatenate([found.train, found.held_out, found.served])
    letters = np.array(list(train + held_out + served))
    np.testing.assert_array_equal(codes[:, None] == codes, letters[:, None] == letters)


@pytest.mark.parametrize("key", ["user+item", "page+kind", "shoe_size", "user_id", ""])
def test_a_key_of_both_sides_or_of_an_unknown_field_is_refused_with_what_is_known(key: str) -> None:
    with pytest.raises(ConfigError, match=r"\['city', 'page', 'user'\] or of item-side fields \['item', 'kind'\]"):
        history(key, SIDES, TRAIN, HELD_OUT)
