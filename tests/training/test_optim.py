"""Lazy and dense Adam of a stack against torch.optim and against loops over rows."""

import numpy as np
import pytest
import torch

from evorec.training.optim import DenseAdam, LazyRowAdam

ROUNDING = 1e-12  # some twenty float64 steps on numbers of size 1
RATES, DECAYS = (0.1, 0.02), (0.5, 3.0)
TOUCHED = [[0, 2], [2, 3], [0], [0, 2, 3], [3], [2]]  # row 1 in no batch, row 4 in the last one only
STEPS = 7


def rates():
    return torch.tensor(RATES, dtype=torch.float64)


def decays():
    return torch.tensor(DECAYS, dtype=torch.float64)


def touched(step):
    return TOUCHED[step - 1] if step <= len(TOUCHED) else [2, 4]


def gradients():
    return torch.tensor(np.random.default_rng(0).normal(size=(STEPS + 1, 5, 2, 3)))


def table():
    return torch.tensor(np.random.default_rng(1).normal(size=(5, 2, 3)))


def rows_of(step):
    return torch.tensor(touched(step))


def lazy_run(grads):
    values = table()
    optimiser = LazyRowAdam(values, rates(), decays(), steps=STEPS)
    seen = []
    for step in range(1, STEPS + 1):
        rows = rows_of(step)
        read = optimiser.read(rows, step)
        seen.append(read.clone())
        optimiser.write(rows, read, grads[step][rows], step)
    optimiser.flush(STEPS)
    return values, seen, optimiser


def masked_dense_run(grads):
    """Dense AdamW, number by number; only rows of the batch take the Adam step, all rows decay at every step."""
    values = table().numpy()
    m, v = np.zeros_like(values), np.zeros_like(values)
    before = []
    for step in range(1, STEPS + 1):
        before.append(values[touched(step)].copy())
        for row, member, column in np.ndindex(values.shape):
            at = row, member, column
            values[at] *= 1 - RATES[member] * DECAYS[member]
            if row in touched(step):
                g = float(grads[step][at])
                m[at] = 0.9 * m[at] + 0.1 * g
                v[at] = 0.999 * v[at] + 0.001 * g * g
                root = np.sqrt(v[at] / (1 - 0.999**step))
                values[at] -= RATES[member] * m[at] / (1 - 0.9**step) / (root + 1e-8)
    return values, before


def test_lazy_adam_is_dense_adam_masked_to_the_rows_of_the_batch():
    values, _, _ = lazy_run(gradients())
    expected, _ = masked_dense_run(gradients())
    trained_rows = [0, 2, 3, 4]
    np.testing.assert_allclose(values[trained_rows], expected[trained_rows], rtol=0, atol=ROUNDING)


def test_a_row_is_read_with_every_decay_it_has_missed():
    _, seen, _ = lazy_run(gradients())
    _, before = masked_dense_run(gradients())
    for read, expected in zip(seen, before, strict=True):
        np.testing.assert_allclose(read, expected, rtol=0, atol=ROUNDING)


def test_a_row_that_no_batch_touches_ends_as_zero():
    values, _, _ = lazy_run(gradients())
    assert (values[1] == 0).all()
    assert (values[[0, 2, 3, 4]] != 0).all()


def test_flushing_twice_changes_nothing():
    values, _, optimiser = lazy_run(gradients())
    once = values.clone()
    optimiser.flush(STEPS)
    assert torch.equal(values, once)


def test_a_first_step_goes_by_the_learning_rate_whatever_the_gradient():
    values = torch.ones(1, 2, 2, dtype=torch.float64)
    optimiser = LazyRowAdam(values, rates(), decays(), steps=1)
    row = torch.tensor([0])
    optimiser.write(row, optimiser.read(row, 1), torch.tensor([[[5.0, -0.01], [100.0, 0.0]]]).double(), 1)
    # m / (1 - 0.9) = g and sqrt(v / (1 - 0.999)) = |g|; decay 1 - 0.1 * 0.5 = 0.95 and 1 - 0.02 * 3 = 0.94
    expected = [[[0.95 - 0.1, 0.95 + 0.1], [0.94 - 0.02, 0.94]]]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)  # epsilon 1e-8 beside a gradient of 0.01


def test_rows_touched_in_every_step_follow_torch_adamw():
    grads = gradients()
    values = table()
    optimiser = LazyRowAdam(values, rates(), decays(), steps=STEPS)
    every = torch.arange(5)
    for step in range(1, STEPS + 1):
        optimiser.write(every, optimiser.read(every, step), grads[step], step)
    optimiser.flush(STEPS)
    for member in range(2):
        expected = adamw(table()[:, member], [g[:, member] for g in grads[1:]], RATES[member], DECAYS[member])
        np.testing.assert_allclose(values[:, member], expected, rtol=0, atol=ROUNDING)


def adamw(values, grads, rate, decay):
    parameter = torch.nn.Parameter(values.clone())
    optimiser = torch.optim.AdamW([parameter], lr=rate, weight_decay=decay)
    for grad in grads:
        parameter.grad = grad.clone()
        optimiser.step()
    return parameter.detach()


@pytest.mark.parametrize(("name", "decayed"), [("layer0.weight", True), ("layer0.bias", False)])
def test_dense_adam_gives_each_slot_the_rates_of_its_owner_and_spares_biases(name, decayed):
    start, grads = table(), gradients()
    owners = [0, 0, 1, 0, 1]
    values = start.clone()
    optimiser = DenseAdam({name: values}, {name: owners}, rates(), decays())
    for step in range(1, STEPS + 1):
        optimiser.step({name: grads[step]}, step)
    for slot, owner in enumerate(owners):
        decay = DECAYS[owner] if decayed else 0.0
        expected = adamw(start[slot], [grad[slot] for grad in grads[1:]], RATES[owner], decay)
        np.testing.assert_allclose(values[slot], expected, rtol=0, atol=ROUNDING)


def test_gradients_are_not_changed():
    grads = gradients()
    lazy_run(grads)
    assert torch.equal(grads, gradients())
