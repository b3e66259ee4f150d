"""Losses against numbers worked by hand."""

from math import exp, log

import pytest
import torch

from evorec.models.losses import sampled_softmax_loss, task_losses

ROUNDING = 1e-12  # a few float64 operations on numbers of size 1


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


def softmax_loss(scores, no_negative):
    """The loss of given scores ``[P, B, B]``: unit items pick the users' components."""
    return sampled_softmax_loss(scores, torch.eye(scores.shape[1]).expand_as(scores).to(scores.dtype), no_negative)


def test_cross_entropy_of_undecided_logits_is_log_two():
    found = task_losses(doubles([[[0.0, 0.0]]]), doubles([[0, 1]]), doubles([[1, 1]]), doubles([2]))
    assert found.tolist() == [[pytest.approx(log(2), abs=ROUNDING)]]


def test_cross_entropy_is_one_number_per_member_and_task():
    logits = doubles([[[log(3), 0.0], [0.0, 0.0]], [[-log(3), log(3)], [log(3), -log(3)]]])
    labels, ones = doubles([[1, 0], [1, 0]]), torch.ones(2, 2, dtype=torch.float64)
    # sigmoid(log 3) = 3/4, so a right guess costs log 4/3 and a wrong one log 4
    expected = [
        [(log(4 / 3) + log(2)) / 2, log(2)],
        [(log(4) + log(4)) / 2, (log(4 / 3) + log(4 / 3)) / 2],
    ]
    found = task_losses(logits, labels, ones, doubles([2, 2]))
    torch.testing.assert_close(found, doubles(expected), rtol=0, atol=ROUNDING)


def test_missing_labels_do_not_count():
    logits = doubles([[[log(3), 55.0, 0.0]]])
    found = task_losses(logits, doubles([[1, 0, 0]]), doubles([[1, 0, 1]]), doubles([2]))
    assert found.tolist() == [[pytest.approx((log(4 / 3) + log(2)) / 2, abs=ROUNDING)]]


def test_a_task_without_a_label_gives_zero_and_no_gradient():
    logits = doubles([[[1.0, -2.0]]]).requires_grad_()
    loss = task_losses(logits, doubles([[0, 0]]), doubles([[0, 0]]), doubles([1]))
    loss.sum().backward()
    assert loss.tolist() == [[0.0]]
    assert logits.grad.tolist() == [[[0.0, 0.0]]]


def test_the_gradient_of_a_logit_is_probability_minus_label():
    logits = doubles([[[0.0, log(3), -log(3), 800.0, -800.0]]]).requires_grad_()
    labels = doubles([[1, 0, 0, 1, 1]])
    loss = task_losses(logits, labels, torch.ones_like(labels), doubles([1]))
    loss.sum().backward()
    expected = doubles([[[-0.5, 0.75, 0.25, 0.0, -1.0]]])
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=ROUNDING)


def test_extreme_logits_cost_their_size_and_nothing_overflows():
    logits = torch.tensor([[[1e4, -1e4]]])
    assert task_losses(logits, torch.tensor([[0.0, 0.0]]), torch.ones(1, 2), torch.ones(1)).tolist() == [[1e4]]


@pytest.mark.parametrize("n_rows", [5, 16, 37, 100])
def test_gradients_do_not_depend_on_where_a_member_stands(n_rows):
    # binary_cross_entropy_with_logits fails here: the remainder of its vectorised sigmoid rounds differently
    generator = torch.Generator().manual_seed(n_rows)
    logits = torch.randn(7, 3, n_rows, generator=generator)
    labels = (torch.rand(3, n_rows, generator=generator) < 0.3).float()

    def gradient(members):
        leaf = logits[members].clone().requires_grad_()
        task_losses(leaf, labels, torch.ones_like(labels), torch.full((3,), float(n_rows))).sum().backward()
        return leaf.grad

    together = gradient(list(range(7)))
    for members in ([0, 1], [6, 5], [3, 1, 0], [4, 2, 6, 0, 1]):
        assert torch.equal(gradient(members), together[members])


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


def test_a_batch_of_one_item_has_nothing_to_tell():
    same = ~torch.eye(4, dtype=torch.bool)
    scores = doubles([[[float(i + j) for i in range(4)] for j in range(4)]])
    assert softmax_loss(scores, same).tolist() == [0.0]


def test_softmax_is_one_number_per_member():
    scores = doubles([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    right, wrong = log(1 + exp(-1)), log(1 + exp(1))
    found = softmax_loss(scores, torch.zeros(2, 2, dtype=torch.bool))
    torch.testing.assert_close(found, doubles([right, wrong]), rtol=0, atol=ROUNDING)


def test_the_gradients_of_the_softmax_are_those_of_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(3, 6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    same = torch.zeros(6, 6, dtype=torch.bool)
    same[0, 3] = same[3, 0] = True
    leaves = users.requires_grad_(), items.requires_grad_()
    loss = sampled_softmax_loss(users, items, same)
    scores = (users @ items.transpose(1, 2)).masked_fill(same, float("-inf"))
    expected = torch.stack([torch.nn.functional.cross_entropy(some, torch.arange(6)) for some in scores])
    torch.testing.assert_close(loss, expected, rtol=0, atol=ROUNDING)
    weights = doubles([1.0, 0.2, 3.0])
    found = torch.autograd.grad((loss * weights).sum(), leaves)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=ROUNDING)


def test_large_scores_do_not_overflow():
    found = softmax_loss(torch.tensor([[[1e4, 0.0], [0.0, -1e4]]]), torch.zeros(2, 2, dtype=torch.bool))
    assert found.tolist() == [5e3]  # (0 + 1e4) / 2
