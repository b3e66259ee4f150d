"""Losses against numbers worked by hand and loops over plain Python numbers."""

from math import exp, inf, log, log1p

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tiny import RETRIEVAL_LOSSES, spec

from evorec.config import QuantileKind
from evorec.models.losses import NumberTasks, TaskTargets, task_losses
from evorec.models.negative_scores import Cells, FirstCells, NegativeMask
from evorec.models.retrieval import COLDEST, loss_groups, retrieval_loss
from evorec.models.spec import NEGATIVE_SOURCES

ROUNDING = 1e-12  # a few float64 operations on numbers of size 1
SINGLE = 2e-5  # float32 scores of size 5 to 20, rounded in another order
GRADIENT_SINGLE = 1e-6  # gradients of a mean over 12 rows
N_ITEMS = 40


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


def cross_entropy(logits, labels, labelled=None):
    labels = torch.as_tensor(labels, dtype=logits.dtype)
    labelled = torch.ones_like(labels) if labelled is None else torch.as_tensor(labelled, dtype=logits.dtype)
    return task_losses(logits, TaskTargets.of(labels, labelled))


def blocked_scores(no_negative, no_uniform=None):
    """The first mask with its diagonal, and the second mask."""
    masks = {"batch": no_negative | torch.eye(len(no_negative), dtype=torch.bool, device=no_negative.device)}
    if no_uniform is not None:
        masks["uniform"] = no_uniform
    return NegativeMask({source: Cells.of(mask.cpu().numpy(), mask.device) for source, mask in masks.items()})


def retrieval(users, items, uniform, blocked, specs, n_items=N_ITEMS, *, batched=False):
    """Losses and the gradients of users, items and uniform items."""
    columns = {"batch": items.shape[1], "uniform": 0 if uniform is None else uniform.shape[1]}
    parts = loss_groups(specs, columns, n_items, users, batched=batched)
    loss, *gradients = retrieval_loss(users, items, uniform, blocked, parts)
    return loss, gradients


def softmax_loss(scores, no_negative, temperature=1.0):
    """The loss of given scores ``[P, B, B]``: unit items pick the users' components."""
    items = torch.eye(scores.shape[1]).expand_as(scores).to(scores.dtype)
    specs = [spec(temperature=temperature)] * len(scores)
    return retrieval(scores, items, None, blocked_scores(no_negative), specs)[0]


def test_cross_entropy_of_undecided_logits_is_log_two():
    found, _ = cross_entropy(doubles([[[0.0, 0.0]]]), [[0, 1]])
    assert found.tolist() == [[pytest.approx(log(2), abs=ROUNDING)]]


def test_cross_entropy_is_one_number_per_member_and_task():
    logits = doubles([[[log(3), 0.0], [0.0, 0.0]], [[-log(3), log(3)], [log(3), -log(3)]]])
    # sigmoid(log 3) = 3/4, so a right guess costs log 4/3 and a wrong one log 4
    expected = [[(log(4 / 3) + log(2)) / 2, log(2)], [(log(4) + log(4)) / 2, (log(4 / 3) + log(4 / 3)) / 2]]
    found, _ = cross_entropy(logits, [[1, 0], [1, 0]])
    torch.testing.assert_close(found, doubles(expected), rtol=0, atol=ROUNDING)


def test_missing_labels_do_not_count():
    found, gradient = cross_entropy(doubles([[[log(3), 55.0, 0.0]]]), [[1, 0, 0]], [[1, 0, 1]])
    assert found.tolist() == [[pytest.approx((log(4 / 3) + log(2)) / 2, abs=ROUNDING)]]
    assert gradient[0, 0, 1] == 0


def test_a_task_without_a_label_gives_zero_and_no_gradient():
    loss, gradient = cross_entropy(doubles([[[1.0, -2.0]]]), [[0, 0]], [[0, 0]])
    assert loss.tolist() == [[0.0]]
    assert gradient.tolist() == [[[0.0, 0.0]]]


def test_the_gradient_of_a_logit_is_its_share_of_probability_minus_label():
    _, gradient = cross_entropy(doubles([[[0.0, log(3), -log(3), 800.0, -800.0]]]), [[1, 0, 0, 1, 1]])
    expected = doubles([[[-0.5, 0.75, 0.25, 0.0, -1.0]]]) / 5
    torch.testing.assert_close(gradient, expected, rtol=0, atol=ROUNDING)


def test_cross_entropy_and_its_gradient_are_those_of_torch():
    rng = torch.Generator().manual_seed(1)
    logits = (5 * torch.randn(4, 3, 20, generator=rng, dtype=torch.float64)).requires_grad_()
    labels, labelled = ((torch.rand(3, 20, generator=rng) < share).double() for share in (0.3, 0.8))
    labels *= labelled
    each = F.binary_cross_entropy_with_logits(logits, labels.expand_as(logits), reduction="none")
    expected = (each * labelled).sum(2) / labelled.sum(1)
    found, gradient = cross_entropy(logits.detach(), labels, labelled)
    torch.testing.assert_close(found, expected.detach(), rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected.sum(), logits), rtol=ROUNDING, atol=ROUNDING)


def test_extreme_logits_cost_their_size_and_nothing_overflows():
    found, _ = cross_entropy(torch.tensor([[[1e4, -1e4]]]), [[0, 0]])
    assert found.tolist() == [[5e3]]  # (1e4 + 0) / 2


KINDS = ("binary", "regression", QuantileKind(quantile=0.9), QuantileKind(quantile=0.25))


def losses_of_kinds(logits, labels, labelled=None, kinds=KINDS):
    labels = torch.as_tensor(labels, dtype=logits.dtype)
    labelled = torch.ones_like(labels) if labelled is None else torch.as_tensor(labelled, dtype=logits.dtype)
    return task_losses(logits, TaskTargets.of(labels, labelled, NumberTasks.of(kinds, logits.device, logits.dtype)))


def test_losses_of_numbers_worked_by_hand():
    logits, labels = [[[0.0, 0.0], [1.0, 5.0], [1.0, 5.0], [1.0, 5.0]]], [[0, 1], [4, 4], [4, 4], [4, 4]]
    loss, gradient = losses_of_kinds(doubles(logits), labels)
    # too low by 3 and too high by 1: 9 / 2 and 1 / 2; 0.9 * 3 and 0.1 * 1; 0.25 * 3 and 0.75 * 1
    assert loss.tolist() == [pytest.approx([log(2), 5 / 2, 2.8 / 2, 1.5 / 2], abs=ROUNDING)]
    expected = [[0.25, -0.25], [-3 / 2, 1 / 2], [-0.9 / 2, 0.1 / 2], [-0.25 / 2, 0.75 / 2]]
    torch.testing.assert_close(gradient, doubles([expected]), rtol=0, atol=ROUNDING)


def test_losses_of_numbers_and_their_gradients_are_those_of_torch():
    rng = torch.Generator().manual_seed(2)
    logits = (3 * torch.randn(5, 4, 21, generator=rng, dtype=torch.float64)).requires_grad_()
    labels = 2 * torch.randn(4, 21, generator=rng, dtype=torch.float64)
    labels[0] = (labels[0] > 0).double()
    labelled = (torch.rand(4, 21, generator=rng) < 0.8).double()
    labels *= labelled
    errors = labels - logits
    each = [F.binary_cross_entropy_with_logits(logits[:, 0], labels[0].expand(5, -1), reduction="none")]
    each.append(errors[:, 1] ** 2 / 2)
    each += [torch.maximum(q * errors[:, t], (q - 1) * errors[:, t]) for t, q in ((2, 0.9), (3, 0.25))]
    expected = (torch.stack(each, 1) * labelled).sum(2) / labelled.sum(1)
    found, gradient = losses_of_kinds(logits.detach(), labels, labelled)
    torch.testing.assert_close(found, expected.detach(), rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected.sum(), logits), rtol=ROUNDING, atol=ROUNDING)


def test_numbers_without_a_label_give_zero_and_no_gradient():
    logits, none = doubles([[[0.0] * 3, [1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]), [[0] * 3] * 4
    loss, gradient = losses_of_kinds(logits, none, none)
    assert loss.tolist() == [[0.0] * 4]
    assert not gradient.any()


def test_a_quantile_is_met_where_the_gradient_is_zero():
    labels = torch.arange(10.0, dtype=torch.float64).expand(4, -1)
    at = doubles([8.5]).expand(1, 4, 10)  # above 9 of 10 labels
    assert losses_of_kinds(at, labels)[1][0, 2].sum().item() == pytest.approx(0.0, abs=ROUNDING)


def test_losses_of_binary_tasks_are_bitwise_independent_of_tasks_with_numbers():
    rng = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 4, 37, generator=rng)
    labels = torch.randn(4, 37, generator=rng)
    labels[0], labels[3] = (labels[0] > 0).float(), (labels[3] > 0).float()
    kinds = ("binary", "regression", QuantileKind(quantile=0.5), "binary")
    loss, gradient = losses_of_kinds(logits, labels, kinds=kinds)
    for task in (0, 3):
        alone, own = cross_entropy(logits[:, task : task + 1].contiguous(), labels[task : task + 1])
        assert torch.equal(loss[:, task], alone[:, 0])
        assert torch.equal(gradient[:, task], own[:, 0])
    assert NumberTasks.of(("binary", "binary"), logits.device, logits.dtype) is None


@pytest.mark.parametrize("n_rows", [5, 16, 37, 100])
def test_losses_of_numbers_are_independent_of_the_index_of_a_member(n_rows):
    rng = torch.Generator().manual_seed(n_rows)
    logits = torch.randn(7, 4, n_rows, generator=rng)
    labels = torch.randn(4, n_rows, generator=rng)
    labels[0] = (labels[0] > 0).float()
    labelled = (torch.rand(4, n_rows, generator=rng) < 0.8).float()
    together = losses_of_kinds(logits, labels * labelled, labelled)
    for members in ([0, 1], [6, 5], [3, 1, 0], [4, 2, 6, 0, 1], [2]):
        found = losses_of_kinds(logits[members], labels * labelled, labelled)
        for part, whole in zip(found, together, strict=True):
            assert torch.equal(part, whole[members])


@pytest.mark.parametrize("n_rows", [5, 16, 37, 100])
def test_gradients_are_independent_of_the_index_of_a_member(n_rows):
    # binary_cross_entropy_with_logits fails here: the remainder of its vectorised sigmoid rounds differently
    generator = torch.Generator().manual_seed(n_rows)
    logits = torch.randn(7, 3, n_rows, generator=generator)
    labels = (torch.rand(3, n_rows, generator=generator) < 0.3).float()
    _, together = cross_entropy(logits, labels)
    for members in ([0, 1], [6, 5], [3, 1, 0], [4, 2, 6, 0, 1]):
        assert torch.equal(cross_entropy(logits[members], labels)[1], together[members])


def test_cells_of_the_first_columns_are_indices_in_a_narrower_matrix():
    matrix = np.array([[False, True, True], [True, False, True]])
    cells = Cells.of(matrix, torch.device("cpu"))
    for n in range(4):
        first, narrow = FirstCells(cells, n, doubles([])), torch.tensor(matrix[:, :n])
        assert sorted(first.flat.tolist()) == narrow.flatten().nonzero().flatten().tolist()
        assert first.n_left.tolist() == (~narrow).sum(1).tolist()
        assert first.n_left.dtype == torch.float64
    assert cells.n_columns == 3


def test_cells_of_a_matrix_without_columns_are_none():
    first = FirstCells(Cells.of(np.zeros((2, 0), dtype=bool), torch.device("cpu")), 0, doubles([]))
    assert first.flat.tolist() == []
    assert first.n_left.tolist() == [0.0, 0.0]


def test_softmax_of_two_positives_worked_by_hand():
    scores = doubles([[[log(3), 0.0], [0.0, 0.0]]])
    # rows: 3 / (3 + 1) and 1 / (1 + 1)
    expected = (log(4 / 3) + log(2)) / 2
    found = softmax_loss(scores, torch.zeros(2, 2, dtype=torch.bool))
    assert found.tolist() == [pytest.approx(expected, abs=ROUNDING)]


def test_accidental_hits_are_no_negatives():
    scores = doubles([[[0.0, 7.0, log(2)], [9.0, 0.0, log(4)], [0.0, 0.0, 0.0]]])
    same = torch.zeros(3, 3, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True  # positives 0 and 1 are the same item
    # rows: 1 / (1 + 2), 1 / (1 + 4), 1 / 3
    expected = (log(3) + log(5) + log(3)) / 3
    assert softmax_loss(scores, same).tolist() == [pytest.approx(expected, abs=ROUNDING)]


def test_softmax_is_one_number_per_member():
    scores = doubles([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    right, wrong = log(1 + exp(-1)), log(1 + exp(1))
    found = softmax_loss(scores, torch.zeros(2, 2, dtype=torch.bool))
    torch.testing.assert_close(found, doubles([right, wrong]), rtol=0, atol=ROUNDING)


def test_large_scores_do_not_overflow_where_the_temperature_allows_them():
    scores = torch.tensor([[[1e4, 0.0], [0.0, -1e4]]])
    assert softmax_loss(scores, torch.zeros(2, 2, dtype=torch.bool), 1e-4).tolist() == [5e3]  # (0 + 1e4) / 2


def vectors(specs, *, batch=12, drawn=9, dim=4, dtype=torch.float64, seed=0):
    """Users, items and uniform items of members with given temperatures; masks with rows that lose every negative."""
    rng = torch.Generator().manual_seed(seed)
    divisor = torch.tensor([s.temperature for s in specs], dtype=torch.float64)[:, None, None]

    def units(n):
        return F.normalize(torch.randn(len(specs), n, dim, generator=rng, dtype=torch.float64), dim=2)

    users, items, uniform = units(batch), units(batch) / divisor, units(drawn) / divisor
    items[:, 5] = items[:, 2]  # positives 2 and 5 are the same item
    no_negative = torch.rand(batch, batch, generator=rng) < 0.2
    no_uniform = torch.rand(batch, drawn, generator=rng) < 0.2
    no_negative[2, 5] = no_negative[5, 2] = True
    no_negative[4], no_uniform[3] = True, True
    no_negative.fill_diagonal_(False)
    return users.to(dtype), items.to(dtype), uniform.to(dtype), no_negative, no_uniform


def softplus(x):
    return max(x, 0.0) + log1p(exp(-abs(x)))


def literal(users, items, uniform, no_negative, no_uniform, its):
    """One member's loss, score by score."""
    batch = its.negative_source == "batch"
    pool, mask = (items, no_negative) if batch else (uniform, no_uniform)
    n_drawn = min(its.negatives, len(pool))
    total = 0.0
    for b in range(len(users)):
        own = float(users[b] @ items[b])
        columns = [j for j in range(n_drawn) if not mask[b, j] and not (batch and j == b)]
        scores = [float(users[b] @ pool[j]) for j in columns]
        if its.retrieval_loss == "softmax":
            largest = max([own, *scores])
            total += largest + log(sum(exp(s - largest) for s in [own, *scores])) - own
        elif its.retrieval_loss == "bpr":
            total += sum(softplus(s - own) for s in scores) / len(scores) if scores else 0.0
        else:
            rate = min(n_drawn / (N_ITEMS - 1), 1.0)
            beta = its.setting("gbce_calibration") * (rate - 1) + 1
            total += (beta * softplus(-own) + sum(softplus(s) for s in scores)) / (len(scores) + 1)
    return total / len(users)


def all_kinds(temperatures=(0.2, 0.05, 0.01)):
    return [
        spec(
            retrieval_loss=kind, negative_source=source, negatives=n, temperature=temperature, gbce_calibration=n / 512
        )
        for kind in RETRIEVAL_LOSSES
        for source in NEGATIVE_SOURCES
        for n in (1, 5, 512)
        for temperature in temperatures
    ]  # fmt: skip


def side_by_side(part):
    """The same ``[P, n, E]`` with the members of a row next to each other in memory."""
    return part.transpose(0, 1).contiguous().transpose(0, 1)


def loss_and_gradients(inputs, specs, members=None, lay=torch.Tensor.contiguous, *, batched=False):
    """Losses, and their gradients in users, items and uniform items."""
    users, items, uniform, *masks = inputs
    at = list(range(len(specs))) if members is None else members
    mine = [lay(part[at]) for part in (users, items, uniform)]
    return retrieval(*mine, blocked_scores(*masks), [specs[p] for p in at], batched=batched)


def test_every_kind_is_the_loop_over_its_scores():
    specs = all_kinds()
    users, items, uniform, *masks = inputs = vectors(specs)
    found, _ = loss_and_gradients(inputs, specs)
    expected = [literal(users[p], items[p], uniform[p], *masks, its) for p, its in enumerate(specs)]
    assert found.tolist() == pytest.approx(expected, abs=ROUNDING, rel=ROUNDING)


class Differentiable(torch.autograd.Function):
    """The loss as automatic differentiation takes it."""

    @staticmethod
    def forward(ctx, users, items, uniform, blocked, specs):
        loss, gradients = retrieval(users, items, uniform, blocked, specs)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx, grad):
        return *(part * grad[:, None, None] for part in ctx.saved_tensors), None, None


def test_gradients_are_those_of_the_losses():
    specs = all_kinds((0.5, 0.02))  # above and below the temperature from which no maximum is needed
    users, items, uniform, *masks = vectors(specs, batch=6, drawn=4, dim=2)
    blocked = blocked_scores(*masks)
    for p, its in enumerate(specs):
        mine = tuple(part[p : p + 1].clone().requires_grad_() for part in (users, items, uniform))
        assert torch.autograd.gradcheck(lambda *leaves, s=its: Differentiable.apply(*leaves, blocked, [s]), mine)


def test_without_negatives_softmax_and_bpr_have_nothing_to_tell():
    specs = [spec(retrieval_loss=kind) for kind in ("softmax", "bpr")]
    users, items, uniform, no_negative, no_uniform = vectors(specs)
    alone = ~torch.eye(len(no_negative), dtype=torch.bool)
    loss, gradients = loss_and_gradients((users, items, uniform, alone, no_uniform), specs)
    assert loss.tolist() == [0.0, 0.0]
    assert all(not gradient.any() for gradient in gradients)


def test_members_of_the_batch_need_no_uniform_items():
    specs = [spec(retrieval_loss=kind) for kind in RETRIEVAL_LOSSES]
    users, items, uniform, no_negative, no_uniform = vectors(specs)
    with_items, _ = retrieval(users, items, uniform, blocked_scores(no_negative, no_uniform), specs)
    without, (*_, to_uniform) = retrieval(users, items, None, blocked_scores(no_negative), specs)
    assert torch.equal(with_items, without)
    assert to_uniform is None


def test_gbce_of_a_fully_sampled_catalogue_is_plain_cross_entropy():
    *leaves, no_negative, no_uniform = vectors([spec()] * 2)
    blocked = blocked_scores(no_negative, no_uniform)
    uncalibrated = spec(retrieval_loss="gbce", negative_source="uniform", gbce_calibration=0.0)
    calibrated = spec(retrieval_loss="gbce", negative_source="uniform", gbce_calibration=1.0)
    loss, _ = retrieval(*leaves, blocked, [uncalibrated, calibrated], 10)  # 9 of 9 other items are drawn
    swapped, _ = retrieval(*leaves, blocked, [calibrated, uncalibrated], 10)
    assert loss[0] == pytest.approx(swapped[0].item())


def test_blocked_scores_of_one_step_serve_any_number_of_calls():
    specs = all_kinds((0.2,))
    users, items, uniform, *masks = vectors(specs)
    blocked = blocked_scores(*masks)
    for p, its in enumerate(specs):
        mine = [part[p : p + 1] for part in (users, items, uniform)]
        fresh, _ = retrieval(*mine, blocked_scores(*masks), [its])
        assert torch.equal(retrieval(*mine, blocked, [its])[0], fresh)


@pytest.mark.parametrize("temperature", [COLDEST, 0.999 * COLDEST])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_coldest_scores_stay_exact_in_single_precision(temperature, sign):
    # own score and negatives at opposite ends, the worst that unit vectors can do
    specs = [spec(retrieval_loss=kind, temperature=temperature) for kind in RETRIEVAL_LOSSES]
    users = torch.ones(3, 64, 1)
    items = sign * torch.ones(3, 64, 1) / temperature
    items[:, ::2] *= -1
    mask = torch.zeros(64, 64, dtype=torch.bool)
    loss, gradients = loss_and_gradients((users, items, items, mask, mask), specs)
    wide = [part.double() for part in (users, items, items)]
    expected, exact = loss_and_gradients((*wide, mask, mask), specs)
    torch.testing.assert_close(loss.double(), expected, rtol=SINGLE, atol=0)
    for one, other in zip(gradients, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=SINGLE, atol=GRADIENT_SINGLE)
    assert all(abs(value) < inf for value in loss.tolist())


@pytest.mark.parametrize(("batch", "drawn", "dim"), [(12, 9, 4), (37, 21, 6), (64, 40, 16)])
@pytest.mark.parametrize("lay", [torch.Tensor.contiguous, side_by_side])
def test_results_are_independent_of_the_other_members(batch, drawn, dim, lay):
    specs = all_kinds((0.2, 0.01))
    inputs = vectors(specs, batch=batch, drawn=drawn, dim=dim, dtype=torch.float32)
    loss, gradients = loss_and_gradients(inputs, specs, lay=lay)
    for members in ([0], [7], [35, 2], [4, 3, 30, 11, 0], list(range(5, 36))):
        found, mine = loss_and_gradients(inputs, specs, members=members, lay=lay)
        assert torch.equal(found, loss[members])
        for one, other in zip(mine, gradients, strict=True):
            assert torch.equal(one, other[members])


def test_members_in_a_common_product_get_the_results_of_single_products():
    specs = all_kinds() + all_kinds((0.3,))  # of several temperatures in one product
    inputs = vectors(specs)
    loss, gradients = loss_and_gradients(inputs, specs)
    found, together = loss_and_gradients(inputs, specs, batched=True)
    torch.testing.assert_close(found, loss, rtol=ROUNDING, atol=ROUNDING)
    for one, other in zip(together, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.gpu
def test_a_gpu_gives_the_losses_of_the_cpu():
    specs = all_kinds() + all_kinds((0.3,))
    inputs = vectors(specs)
    loss, gradients = loss_and_gradients(inputs, specs)
    found, there = loss_and_gradients([part.cuda() for part in inputs], specs, batched=True)
    torch.testing.assert_close(found.cpu(), loss, rtol=ROUNDING, atol=ROUNDING)
    for one, other in zip(there, gradients, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=ROUNDING, atol=ROUNDING)
