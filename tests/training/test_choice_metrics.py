"""What members would choose of the held-out rows, against slow loops over the labels of the log."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import EVALUATION, dataset, device_data, number_dataset, plan_of, spec, tables, trained

from evorec.data.held_out import HeldOut, ranking_users
from evorec.data.splits import SplitConfig, split
from evorec.errors import DataError
from evorec.training.evaluate import measure, task_logits

ROUNDING = 1e-12
FLOAT32 = 1e-5  # labels are standardised in float32, and are seconds around 100
SPECS = [spec(rank_blend=0.0), spec(mechanism="mmoe", sharing_depth=2, task_weights=(0.2, 1.8, 1.0))]


def held_out(data, spend=""):
    config = EVALUATION.model_copy(update={"spend": spend})
    return HeldOut(data, config, ranking_users(data, config, seed=0, at_most=None))


def slow_choice(part, n_users, scores):
    chosen = []
    for user in range(n_users):
        rows = np.flatnonzero(part.users == user).tolist()
        if len(rows) > 1:
            chosen += sorted(rows, key=lambda row: (-scores[row], row))[: len(rows) // 2]
    return np.array(chosen)


def labels_of(data):
    """Held-out labels in their own unit, ``(T, N)``."""
    labels = data.held_out.labels.astype(np.float64)
    return (data.label_shift + data.label_scale * labels).T


@pytest.fixture(scope="module")
def world():
    data = replace(number_dataset(given=True), signs=(1, -1, 1))
    on_device = device_data(data)
    stack = trained(SPECS, plan_of(data, on_device, steps=10), on_device).population
    return data, on_device, stack, measure(stack, on_device, held_out(data, "late"))


def test_what_a_member_chooses_brings_what_a_slow_loop_says(world):
    data, on_device, stack, measured = world
    logits = task_logits(stack, on_device, data.held_out)
    click, watch, late = labels_of(data)
    assert np.isnan(watch).any(), "watch is known among clicks alone"
    for member, found in enumerate(measured):
        w = SPECS[member].task_weights
        scores = logits[member].astype(np.float64)
        chosen = slow_choice(data.held_out, data.n_users, w[0] * scores[0] - w[1] * scores[1] + w[2] * scores[2])
        assert found.metrics["gain/click"] == pytest.approx(click[chosen].mean(), abs=ROUNDING)
        assert found.metrics["harm/watch"] == pytest.approx(np.nanmean(watch[chosen]), rel=ROUNDING)
        assert found.metrics["gain/late"] == pytest.approx(late[chosen].mean(), rel=ROUNDING)
        expected = late[chosen].sum() / click[chosen].sum()
        assert found.metrics["cost_per/click"] == pytest.approx(expected, rel=ROUNDING)
        assert not {"harm/click", "gain/watch", "cost_per/watch"} & found.metrics.keys()


def test_labels_are_in_the_unit_of_the_log(world):
    data, *_ = world
    rows = split(tables(), SplitConfig()).validation
    rng = np.random.default_rng(8)  # as `number_dataset` draws them
    log = tables().interactions
    click = log["click"].to_numpy()
    watch = 30 * np.exp(rng.normal(size=len(click)) + click) + log["item_id"].to_numpy() % 7
    np.testing.assert_allclose(labels_of(data)[2], watch[rows], rtol=FLOAT32, atol=1e-3)


def test_corners_are_the_best_and_the_worst_half_by_the_label(world):
    data, *_ = world
    rows = held_out(data, "late")
    click, watch, late = labels_of(data)
    best, worst = (slow_choice(data.held_out, data.n_users, sign * click) for sign in (1, -1))
    assert rows.corners["gain/click"] == pytest.approx((click[best].mean(), click[worst].mean()), abs=ROUNDING)
    known = ~np.isnan(watch)
    low, high = (slow_choice(data.held_out, data.n_users, np.where(known, sign * watch, -np.inf)) for sign in (-1, 1))
    assert rows.corners["harm/watch"] == pytest.approx((np.nanmean(watch[low]), np.nanmean(watch[high])), rel=ROUNDING)
    assert rows.corners["gain/click"][0] > rows.corners["gain/click"][1]
    assert rows.corners["harm/watch"][0] < rows.corners["harm/watch"][1]
    ideal, most = rows.corners["cost_per/click"]
    by_label = slow_choice(data.held_out, data.n_users, click * 1e6 - late)
    costliest = slow_choice(data.held_out, data.n_users, late)
    assert ideal == pytest.approx(late[by_label].sum() / click[by_label].sum(), rel=ROUNDING)
    assert most == pytest.approx(late[costliest].sum() / click[costliest].sum(), rel=ROUNDING)
    assert rows.logged.n_users + rows.logged.n_left_out == len(set(data.held_out.users.tolist()) - {data.n_users})


def small(users, labels, **changes):
    """The tiny data set with a few held-out rows of its first users, and their labels ``(N, T)``."""
    data, n = number_dataset(), len(users)
    cut = {name: getattr(data.held_out, name)[:n] for name in ("items", "context", "statistics", "target", "time")}
    part = replace(data.held_out, users=np.array(users), labels=np.array(labels, dtype=np.float32), **cut)
    plain = {"label_shift": np.zeros(3), "label_scale": np.ones(3), **changes}
    return replace(data, held_out=part, **plain)


def test_gains_and_harms_worked_by_hand():
    data = small([0, 0, 0, 0, 1], [[1, 5, 0], [0, 1, 0], [0, 3, 0], [1, np.nan, 0], [1, 9, 0]], signs=(1, -1, 1))
    rows = held_out(data)
    # clicks: best half rows 0 and 3, worst 1 and 2; seconds: lowest 1 and 3, highest 5 and 3; late never differs
    assert rows.corners == {"gain/click": (1.0, 0.0), "harm/watch": (2.0, 4.0)}
    logits = np.array([[4.0, 1.0, 0.0, 3.0, 9.0], [0.0, 9.0, 0.0, 0.0, 0.0], [0.0] * 5])
    # scores 4, 10, 0, 3: rows 0 and 1, then 4, -8, 0, 3: rows 0 and 3, of which one has a number of seconds
    assert rows.measure_choices(logits, (1.0, 1.0, 1.0)) == {"gain/click": 0.5, "harm/watch": 3.0}
    assert rows.measure_choices(logits, (1.0, -1.0, 1.0)) == {"gain/click": 1.0, "harm/watch": 5.0}


def test_a_choice_without_a_label_gets_the_worst_corner():
    rows = held_out(small([0, 0, 0], [[0, 5, 0], [0, 1, 0], [0, np.nan, 0]], signs=(1, -1, 1)))
    assert rows.corners == {"harm/watch": (1.0, 5.0)}
    last_row = np.array([[0.0, 0.0, 1.0]] * 3)
    assert rows.measure_choices(last_row, (1.0, 1.0, 1.0)) == {"harm/watch": 5.0}
    both_known_are_taken = small([0] * 4, [[0, 5, 0], [0, 1, 0], [0, np.nan, 0], [0, np.nan, 0]])
    assert held_out(both_known_are_taken).corners == {}


def test_the_costliest_half_is_the_worst_unless_it_is_where_the_positives_are():
    # spend 8 and 6 is on the rows that are bought: 14 per 2 is the only way to have both, and the ideal as well; the
    # choice with the fewest positives has none, so the costliest half at the price of a single positive is the worst
    dear = small([0] * 4, [[1, 0, 8], [1, 0, 6], [0, 0, 1], [0, 0, 1]])
    assert held_out(dear, "late").corners["cost_per/click"] == (7.0, 14.0)
    # the costliest rows are never bought: 14 per max(1, 0), and both positives for 1 + 1
    cheap = small([0] * 4, [[0, 0, 8], [0, 0, 6], [1, 0, 1], [1, 0, 1]])
    assert held_out(cheap, "late").corners["cost_per/click"] == (1.0, 14.0)
    free = small([0] * 4, [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]])
    assert "cost_per/click" not in held_out(free, "late").corners


def test_rows_without_a_choice_are_refused_where_one_is_asked_for():
    alone = small([0, 1, 2], [[1, 5, 1], [0, 1, 2], [1, 2, 3]])
    assert held_out(alone).measure_choices(np.zeros((3, 3)), (1.0, 1.0, 1.0)) == {}
    held_out(alone).check({"accuracy", "recall@5"})
    with pytest.raises(
        DataError, match=r"gain/click needs users with two or more .* 0 users have .* 3 have a single row"
    ):
        held_out(alone).check({"accuracy", "gain/click"})
    with pytest.raises(DataError, match=r"gain/late needs users with two or more held-out rows whose labels differ"):
        held_out(small([0, 0], [[1, 0, 3], [0, 0, 3]])).check({"gain/late"})


def test_what_is_chosen_does_not_depend_on_the_company(world):
    data, on_device, _, measured = world
    alone = trained(SPECS[1:], plan_of(data, on_device, steps=10), on_device).population
    assert measure(alone, on_device, held_out(data, "late"))[0].metrics == measured[1].metrics


def test_binary_tasks_have_gains_without_any_setting():
    data = dataset()
    on_device = device_data(data)
    stack = trained([spec()], plan_of(data, on_device), on_device).population
    metrics = measure(stack, on_device, held_out(data))[0].metrics
    assert {"gain/click", "gain/like", "gain/purchase"} <= metrics.keys()
    assert not any(name.startswith(("harm", "cost_per")) for name in metrics)
