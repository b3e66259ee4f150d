"""Ragged slots for every mix of depths, streams of initial values, and the layer's own backward pass."""

from itertools import product

import numpy as np
import pytest
import torch

from evorec.models.layers import SHARED, draw_columns, dropout, head_slots, select_slots, slot_layer, slot_layers

FLOAT64 = 1e-12  # a product of a few dozen numbers of size 1
N_TASKS = 3


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_a_member_has_one_slot_below_its_depth_and_one_per_task_above(n_layers):
    for depths in product(range(n_layers + 1), repeat=3):
        layers = slot_layers(depths, N_TASKS, n_layers)
        assert len(layers) == n_layers
        for level, layer in enumerate(layers):
            for member, depth in enumerate(depths):
                tasks = [layer.task[slot] for slot in range(layer.n_slots) if layer.member[slot] == member]
                assert tasks == ([SHARED] if level < depth else list(range(N_TASKS)))
            assert list(layer.member) == sorted(layer.member)
            assert layer.n_slots == sum(1 if level < depth else N_TASKS for depth in depths)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_every_slot_reads_the_slot_of_its_own_member_and_task(n_layers):
    for depths in product(range(n_layers + 1), repeat=3):
        layers = slot_layers(depths, N_TASKS, n_layers)
        for level, layer in enumerate(layers):
            for member, task, source in zip(layer.member, layer.task, layer.source, strict=True):
                if level == 0:
                    assert source == member
                    continue
                below = layers[level - 1]
                assert below.member[source] == member
                assert below.task[source] in (SHARED, task)
        last = layers[-1]
        heads = head_slots(last, 3, N_TASKS)
        for (member, task), slot in zip(product(range(3), range(N_TASKS)), heads, strict=True):
            assert last.member[slot] == member
            assert last.task[slot] in (SHARED, task)


def test_slots_worked_by_hand():
    # two tasks, two layers: member 0 has towers from the start, member 1 shares layer 0, member 2 shares both
    first, second = slot_layers([0, 1, 2], 2, 2)
    assert (first.member, first.task, first.source) == ((0, 0, 1, 2), (0, 1, SHARED, SHARED), (0, 0, 1, 2))
    assert (second.member, second.task) == ((0, 0, 1, 1, 2), (0, 1, 0, 1, SHARED))
    assert second.source == (0, 1, 2, 2, 3)
    assert head_slots(second, 3, 2) == (0, 1, 2, 3, 4, 4)


def test_a_narrower_draw_is_the_corner_of_a_wider_one():
    wide = draw_columns(7, "init", (0, 1), 20, 64)
    for n_rows, n_columns in [(20, 16), (5, 64), (1, 1)]:
        np.testing.assert_array_equal(draw_columns(7, "init", (0, 1), n_rows, n_columns), wide[:n_rows, :n_columns])


def test_draws_differ_by_seed_purpose_key_and_column():
    one = draw_columns(7, "init", (0,), 50, 2)
    others = [draw_columns(8, "init", (0,), 50, 1), draw_columns(7, "head", (0,), 50, 1)]
    others += [draw_columns(7, "init", (1,), 50, 1), one[:, 1:]]
    for other in others:
        assert not np.isclose(one[:, 0], other[:, 0]).any()


def test_draws_are_standard_normal():
    draws = draw_columns(0, "init", (), 2000, 10)
    assert abs(draws.mean()) < 0.03  # four standard errors of 20,000 draws
    assert abs(draws.std() - 1) < 0.02


def test_slots_that_read_their_own_are_not_copied():
    x = torch.randn(3, 2, 4)
    assert select_slots(x, (0, 1, 2)) is x
    torch.testing.assert_close(select_slots(x, (2, 2, 0)), torch.stack([x[2], x[2], x[0]]), rtol=0, atol=0)


def test_dropout_of_rate_zero_is_the_identity():
    x = torch.randn(2, 5, 4)
    out = dropout(x, torch.tensor([0.0, 0.5])[:, None, None], torch.rand(5, 4))
    assert torch.equal(out[0], x[0])


def test_dropout_drops_below_the_rate_and_scales_the_rest():
    uniform = torch.tensor([[0.0, 0.24, 0.25, 0.9]])
    out = dropout(torch.ones(2, 1, 4), torch.tensor([0.25, 0.5])[:, None, None], uniform)
    # kept where the draw is at least the rate, scaled by 1 / (1 - rate)
    torch.testing.assert_close(out, torch.tensor([[[0, 0, 4 / 3, 4 / 3]], [[0, 0, 0, 2.0]]]))


def layer_arguments(n_slots=3, batch=6, n_in=5, width=4):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    rate = torch.tensor([0.0, 0.3, 0.6], dtype=torch.float64)[:, None, None]
    uniform = torch.rand(batch, width, generator=generator, dtype=torch.float64)
    return draw(n_slots, batch, n_in), draw(n_slots, n_in, width), draw(n_slots, 1, width), rate, uniform


@pytest.mark.parametrize("drops", [True, False], ids=["dropout", "no dropout"])
def test_a_layer_is_linear_relu_and_dropout(drops):
    x, weight, bias, rate, uniform = layer_arguments()
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    out = slot_layer(x, weight, bias, rate, uniform if drops else None)
    plain = []
    for slot in range(3):
        h = torch.relu(x[slot] @ weight[slot] + bias[slot])
        plain.append(h * (uniform >= rate[slot]) / (1 - rate[slot]) if drops else h)
    expected = torch.stack(plain)
    torch.testing.assert_close(out, expected, rtol=0, atol=FLOAT64)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, wanted = (torch.autograd.grad(result, leaves, grad) for result in (out, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=FLOAT64)


def test_a_layer_changes_neither_its_input_nor_its_weights():
    arguments = layer_arguments()
    before = [t.clone() for t in arguments]
    slot_layer(*arguments)
    assert all(torch.equal(one, other) for one, other in zip(arguments, before, strict=True))
