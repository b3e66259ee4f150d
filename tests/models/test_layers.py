"""Ragged slots for every mix of depths, streams of initial values, and layers of slots against plain PyTorch."""

import numpy as np
import pytest
import torch

from evorec.models.layers import BITS, DROPOUT_LEVELS, Dropout, draw_columns, product, slot_layer, slot_linear

FLOAT64 = 1e-12  # a product of a few dozen numbers of size 1
BFLOAT16 = 0.05  # three digits of numbers of size 3


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


SOURCES = {
    "own": (0, 1, 2, 3),
    "all read one": (2, 2, 2, 2, 2),
    "fan-out": (0, 0, 1, 1, 1, 2, 3, 3),
    "own, then fan-out": (0, 1, 2, 2, 2, 3),
    "shuffled": (3, 0, 2, 1),
    "some read twice, some never": (1, 3, 1, 2, 3, 3),
    "alone": (0,),
    "alone, another": (3,),
}
every_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def arguments(source, *, batch=6, n_in=5, width=4, dtype=torch.float64):
    """Input, weights and biases of a layer whose slots read `source`, and dropout draws."""
    n = len(source)
    uniform = torch.randint(0, DROPOUT_LEVELS, (batch, width), generator=torch.Generator().manual_seed(9))
    tensors = drawn(4, batch, n_in, seed=1), drawn(n, n_in, width, seed=2), drawn(n, 1, width, seed=3)
    return [t.to(dtype) for t in tensors], uniform.to(torch.int16)


def dropout(rates, dtype=torch.float64):
    like = torch.empty(0, dtype=torch.promote_types(dtype, torch.float32))
    return Dropout.at(rates, like, bits=BITS[dtype])


def rates_of(source):
    return [0.0 if slot % 3 == 1 else 0.1 + 0.07 * slot for slot in range(len(source))]


def plain(x, source, weight, bias, rates=None, uniform=None):
    """The layer slot by slot, each with a layer of its own."""
    out = []
    for slot, below in enumerate(source):
        h = torch.relu(torch.nn.functional.linear(x[below], weight[slot].T, bias[slot, 0]))
        if rates is not None:
            kept = torch.tensor(uniform.numpy() >= round(rates[slot] * DROPOUT_LEVELS))
            h = h * kept / (1 - rates[slot])
        out.append(h)
    return torch.stack(out)


def assert_gradients_equal(found, expected, leaves):
    grad = drawn(*expected.shape, seed=4)
    pairs = zip(torch.autograd.grad(found, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=FLOAT64)


@every_source
@pytest.mark.parametrize("drops", [True, False], ids=["dropout", "no dropout"])
def test_a_layer_is_linear_relu_and_dropout(source, drops):
    (x, weight, bias), uniform = arguments(source)
    rates = rates_of(source) if drops else None
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    found = slot_layer(x, source, weight, bias, dropout(rates) if drops else None, uniform if drops else None)
    expected = plain(x, source, weight, bias, rates, uniform)
    torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT64)
    assert_gradients_equal(found, expected, leaves)


@every_source
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
def test_a_linear_map_of_slots_is_one_product_per_slot(source, biased):
    (x, weight, bias), _ = arguments(source)
    leaves = [t.requires_grad_() for t in ((x, weight, bias) if biased else (x, weight))]
    found = slot_linear(x, source, weight, bias if biased else None)
    expected = torch.stack([x[s] @ weight[i] + (bias[i] if biased else 0) for i, s in enumerate(source)])
    torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT64)
    assert_gradients_equal(found, expected, leaves)


@every_source
def test_gradients_are_those_of_finite_differences(source):
    (x, weight, bias), uniform = arguments(source, batch=3, n_in=3, width=2)
    drop = dropout(rates_of(source))
    leaves = [t.requires_grad_() for t in (x, weight, bias)]

    def layer(*tensors):
        return slot_layer(tensors[0], source, *tensors[1:], drop, uniform, keep=True)  # gradcheck walks more than once

    assert torch.autograd.gradcheck(layer, leaves)
    assert torch.autograd.gradcheck(lambda *tensors: slot_linear(tensors[0], source, *tensors[1:]), leaves)


def test_an_input_without_gradient_gets_none_and_the_weights_get_theirs():
    (x, weight, bias), _ = arguments(SOURCES["fan-out"])
    leaves = [weight.requires_grad_(), bias.requires_grad_()]
    found = slot_layer(x, SOURCES["fan-out"], weight, bias, None, None)
    assert_gradients_equal(found, plain(x, SOURCES["fan-out"], weight, bias), leaves)


def test_a_graph_that_is_kept_can_be_walked_twice():
    (x, weight, bias), uniform = arguments(SOURCES["own"])
    x.requires_grad_()
    drop = dropout(rates_of(SOURCES["own"]))
    inner = slot_layer(x, SOURCES["own"], weight, bias, drop, uniform, keep=True)
    out = slot_layer(inner, (0, 0, 1), drawn(3, 4, 4, seed=5), drawn(3, 1, 4, seed=6), None, None, keep=True)
    first, again = (torch.autograd.grad(out[0].sum(), x, retain_graph=True)[0] for _ in range(2))
    assert first.abs().sum() > 0
    assert torch.equal(first, again)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sizes", [(64, 37, 16), (37, 69, 32), (2, 5, 1), (1, 3, 8)], ids=str)
def test_a_single_slot_is_bitwise_the_same_as_among_other_slots(sizes, dtype):
    batch, n_in, width = sizes
    x, weight = drawn(5, batch, n_in, seed=1, dtype=dtype), drawn(5, n_in, width, seed=2, dtype=dtype)
    bias, grad = drawn(5, 1, width, seed=3, dtype=dtype), drawn(5, batch, width, seed=4, dtype=dtype)
    uniform = torch.randint(0, DROPOUT_LEVELS, (batch, width), generator=torch.Generator().manual_seed(5)).short()

    def results(slots, run):
        leaves = [t[slots].clone().requires_grad_() for t in (x, weight, bias)]
        out = run(leaves[0], tuple(range(len(slots))), leaves[1], leaves[2], len(slots))
        return [out.detach().clone(), *torch.autograd.grad(out, leaves, grad[slots])]

    def layer(x, source, weight, bias, n):
        return slot_layer(x, source, weight, bias, dropout([0.3] * n, dtype), uniform)

    def linear(x, source, weight, bias, _):
        return slot_linear(x, source, weight, bias)

    for run in (layer, linear):
        together = results([0, 1, 2, 3, 4], run)
        for slots in ([3], [4, 0], [2, 1, 3]):
            for alone, subset in zip(results(slots, run), together, strict=True):
                assert torch.equal(alone, subset[slots])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sizes", [(64, 37, 16), (37, 69, 32), (6, 5, 8)], ids=str)
@pytest.mark.parametrize("fans", [(2, 2, 2), (1, 3, 3), (3, 1, 1), (4, 2, 1), (1, 1, 1)], ids=str)
def test_a_single_source_and_its_slots_are_bitwise_the_same_as_among_others(fans, sizes, dtype):
    batch, n_in, width = sizes
    source = tuple(one for one, fan in enumerate(fans) for _ in range(fan))
    x, weight = drawn(3, batch, n_in, seed=1, dtype=dtype), drawn(len(source), n_in, width, seed=2, dtype=dtype)
    bias, grad = drawn(len(source), 1, width, seed=3, dtype=dtype), drawn(len(source), batch, width, dtype=dtype)

    def results(sources):
        slots = [slot for one in sources for slot, below in enumerate(source) if below == one]
        leaves = [t.clone().requires_grad_() for t in (x[sources], weight[slots], bias[slots])]
        below = tuple(sources.index(source[slot]) for slot in slots)
        out = slot_layer(leaves[0], below, leaves[1], leaves[2], None, None)
        found = [out.detach().clone(), *torch.autograd.grad(out, leaves, grad[slots])]
        return found, (slots, sources, slots, slots)

    together, _ = results([0, 1, 2])
    for sources in ([0], [1], [2], [2, 0]):
        found, places = results(sources)
        for alone, subset, own in zip(found, together, places, strict=True):
            assert torch.equal(alone, subset[own])


@pytest.mark.parametrize("n_slots", [1, 2, 7])
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
def test_a_product_fills_the_tensor_that_it_is_given(n_slots, biased):
    x, weight, bias = drawn(n_slots, 6, 5), drawn(n_slots, 5, 4, seed=1), drawn(n_slots, 1, 4, seed=2)
    out = torch.full((n_slots, 6, 4), torch.nan, dtype=torch.float64)
    found = product(x, weight, out, bias if biased else None)
    expected = torch.stack([x[i] @ weight[i] + (bias[i] if biased else 0) for i in range(n_slots)])
    torch.testing.assert_close(out, expected, rtol=0, atol=FLOAT64)
    assert found.data_ptr() == out.data_ptr()
    product(x, weight, out, out)  # and once more, added
    torch.testing.assert_close(out, expected + x @ weight, rtol=0, atol=FLOAT64)


def placed_at(values, first):
    """The same numbers in memory that begins `first` numbers behind an aligned address."""
    memory = torch.empty(values.numel() + first)
    return memory[first:].view(values.shape).copy_(values)


@pytest.mark.parametrize(("m", "k", "n"), [(8, 8, 8), (4, 31, 8), (23, 8, 4), (40, 60, 8), (10, 300, 4)])
def test_a_product_is_bitwise_the_same_wherever_its_matrices_begin(m, k, n):
    """Of small sizes, which a member's place in the buffer of its block moves off an aligned address."""
    rng = torch.Generator().manual_seed(4)
    x, weight = torch.randn(5, m, k, generator=rng), torch.randn(5, k, n, generator=rng)
    expected = product(x, weight, torch.empty(5, m, n))
    for first in (1, 2, 3, 4, 8):
        out = placed_at(torch.zeros(5, m, n), 5 * first % 16)
        product(placed_at(x, first), placed_at(weight, 3 * first % 16), out)
        torch.testing.assert_close(out, expected, rtol=0, atol=0)
        transposed = placed_at(weight.transpose(1, 2).contiguous(), first).transpose(1, 2)
        torch.testing.assert_close(
            product(placed_at(x, first), transposed, torch.empty(5, m, n)),
            product(x, weight.transpose(1, 2).contiguous().transpose(1, 2), torch.empty(5, m, n)),
            rtol=0,
            atol=0,
        )


def test_a_single_product_that_is_added_is_bitwise_the_same_as_in_a_batch():
    for m, k, n in ((64, 37, 16), (37, 69, 32), (1, 5, 1), (2, 128, 64)):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            x, weight, start = (drawn(4, *size, seed=i, dtype=dtype) for i, size in enumerate([(m, k), (k, n), (m, n)]))
            subset, alone = start.clone(), start[2:3].clone()
            product(x, weight, subset, subset)
            product(x[2:3], weight[2:3], alone, alone)
            assert torch.equal(alone[0], subset[2])


def test_bfloat16_is_float32_to_three_digits():
    source = SOURCES["own, then fan-out"]
    (x, weight, bias), uniform = arguments(source, dtype=torch.bfloat16)
    drop = dropout(rates_of(source), torch.bfloat16)
    found = slot_layer(x, source, weight, bias, drop, uniform)
    expected = plain(*(t.double() if isinstance(t, torch.Tensor) else t for t in (x, source, weight, bias)),
                     rates_of(source), uniform)  # fmt: skip
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=BFLOAT16, atol=BFLOAT16)


def test_dropout_of_rate_zero_for_all_slots_is_none():
    assert dropout([0.0, 0.0]) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rates", [(0.25, 0.5, 0.0), (0.0, 0.25, 0.25), (0.5, 0.0, 0.5), (0.25, 0.25, 0.5)], ids=str)
def test_dropout_drops_below_the_rate(rates, dtype):
    half = DROPOUT_LEVELS // 2
    uniform = torch.tensor([[0, half // 2 - 1, half // 2, half - 1, half, DROPOUT_LEVELS - 1]], dtype=torch.int16)
    drop = dropout(rates, dtype)
    out = drop.apply_(torch.ones(3, 1, 6, dtype=dtype), drop.masks(uniform))
    # kept where the draw is at least rate * DROPOUT_LEVELS: half / 2 for a quarter, half for a half
    kept = {0.0: [1, 1, 1, 1, 1, 1], 0.25: [0, 0, 1, 1, 1, 1], 0.5: [0, 0, 0, 0, 1, 1]}
    assert out[:, 0].tolist() == [kept[rate] for rate in rates]
    scales = {0.0: 1.0, 0.25: 4 / 3, 0.5: 2.0}
    expected = torch.tensor([scales[rate] for rate in rates], dtype=drop.scale.dtype)
    torch.testing.assert_close(drop.scale.view(-1), expected)
    assert drop.scale.dtype == torch.promote_types(dtype, torch.float32)


def test_dropped_units_are_zero_whatever_they_were():
    x = torch.tensor([[[-1.0, torch.inf, torch.nan, 3.0]]])
    drop = dropout([0.5], torch.float32)
    out = drop.apply_(x, drop.masks(torch.zeros(1, 4, dtype=torch.int16)))
    assert out.tolist() == [[[0.0, 0.0, 0.0, 0.0]]]


def test_a_slot_without_dropout_does_not_notice_a_neighbour_with_dropout():
    (x, weight, bias), uniform = arguments((0, 1), dtype=torch.float32)
    quiet = slot_layer(x[:2], (0, 1), weight, bias, None, None)
    beside = slot_layer(x[:2], (0, 1), weight, bias, dropout([0.0, 0.5], torch.float32), uniform)
    assert torch.equal(quiet[0], beside[0])
    assert not torch.equal(quiet[1], beside[1])


def test_a_layer_changes_neither_its_input_nor_its_weights():
    tensors, uniform = arguments(SOURCES["fan-out"])
    before = [t.clone() for t in (*tensors, uniform)]
    x, weight, bias = tensors
    slot_layer(x, SOURCES["fan-out"], weight, bias, dropout(rates_of(SOURCES["fan-out"])), uniform)
    assert all(torch.equal(one, other) for one, other in zip((*tensors, uniform), before, strict=True))
