"""Id dropout: which ids a step drops, and the row of unknown ids; `test_trainer` trains such members."""

import numpy as np
from tiny import SEED, dataset, device_data, plan_of, spec, trained

from evorec.training.id_dropout import with_dropped_ids

STEPS = 40
RATES = [0.2, 0.6]
SPREAD = 0.02  # four standard deviations of a share of some 5,000 draws


def test_ids_are_dropped_at_their_rate_and_a_lower_rate_drops_some_of_them():
    data = dataset()
    ids = {*data.user_rows[:-1, 0].tolist(), *data.item_rows[:-1, 0].tolist()}
    unknown = {int(data.user_rows[-1, 0]), int(data.item_rows[-1, 0])}
    plan = plan_of(data, device_data(data), steps=STEPS)
    n_ids, n_dropped = 0, dict.fromkeys(RATES, 0)
    for number in range(1, STEPS + 1):
        step = with_dropped_ids(plan.step(number - 1), RATES, seed=SEED, number=number)
        dropped = {rate: set(step.rows[rows].tolist()) for rate, rows in step.dropped.items()}
        assert dropped[0.2] <= dropped[0.6] <= ids | unknown
        assert unknown & set(step.rows.tolist()) <= dropped[0.2]
        n_ids += len((ids - unknown) & set(step.rows.tolist()))
        n_dropped = {rate: n + len(dropped[rate] - unknown) for rate, n in n_dropped.items()}
    for rate in RATES:
        assert abs(n_dropped[rate] / n_ids - rate) < SPREAD


def test_new_items_read_zero_although_steps_draw_them_as_negatives():
    data = dataset()
    on_device = device_data(data)
    members = [spec(id_dropout=0.3, negative_source="uniform"), spec(negative_source="uniform")]
    population = trained(members, plan_of(data, on_device), on_device).population
    unknown = [int(rows[-1, 0]) for rows in (data.user_rows, data.item_rows)]
    assert not population.member_arrays(0)["table"][unknown].any()
    known = data.item_rows[np.flatnonzero(data.item_counts), 0]
    assert population.member_arrays(0)["table"][known].any(1).mean() > 0.5
