"""Balancing of task losses against loops over plain Python numbers and explicit gradient vectors."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import root
from tiny import BALANCINGS, GRADIENT_BALANCINGS, spec

from evorec.models.balancer import Balancer
from evorec.models.balancings import nash
from evorec.models.balancings.dwa import DWA_WINDOW
from evorec.seeds import generator

ROUNDING = 1e-12  # some float64 operations on numbers of size 1
LONG_RUN = 1e-10  # the same, carried along 40 steps
T, STEPS, SEED = 3, 40, 7
WEIGHTS, RATE = (1.5, 0.3, 1.2), 0.05

ALL = torch.ones(T, dtype=torch.bool)


def member(balancing, **changes):
    return spec(**{"balancing": balancing, "task_weights": WEIGHTS, "learning_rate": RATE, **changes})


def balancer(specs, n_tasks=T, dtype=torch.float64):
    return Balancer(specs, n_tasks=n_tasks, seed=SEED, device=torch.device("cpu"), dtype=dtype)


def run(specs, losses, grams, labelled=None, first=1, state=None):
    """Coefficients of every step, shared and specific, each ``[steps, P, T]``."""
    it = balancer(specs)
    if state is not None:
        it.load_state(state)
    out = []
    for number, (loss, gram) in enumerate(zip(losses, grams, strict=True), start=first):
        at = ALL if labelled is None else labelled[number - first]
        out.append(it.coefficients(number, loss, at, gram))
    return torch.stack([c.shared for c in out]), torch.stack([c.specific for c in out]), it


def stream(n_members, steps=STEPS, n_tasks=T, seed=0):
    """Losses ``[steps, P, T]`` and gradients of them ``[steps, P, T, 6]``."""
    rng = torch.Generator().manual_seed(seed)
    losses = torch.rand(steps, n_members, n_tasks, generator=rng, dtype=torch.float64) + 0.1
    return losses, torch.randn(steps, n_members, n_tasks, 6, generator=rng, dtype=torch.float64)


def gram_of(gradients):
    return gradients @ gradients.mT


def alone(balancing, losses, grams, **changes):
    shared, specific, _ = run([member(balancing, **changes)], losses[:, :1], grams[:, :1])
    return shared[:, 0], specific[:, 0]


def softmax(values):
    raised = [math.exp(v) for v in values]
    return [T * r / sum(raised) for r in raised]


def test_fixed_coefficients_are_the_task_weights():
    losses, gradients = stream(1, steps=3)
    for found in alone("fixed", losses, gram_of(gradients)):
        assert found.tolist() == [[1.5, 0.3, 1.2]] * 3


def test_uncertainty_weighting_is_adam_on_log_variances():
    losses, gradients = stream(1)
    shared, specific = alone("uncertainty", losses, gram_of(gradients))
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    z = torch.zeros(T, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([z], lr=RATE, betas=(0.9, 0.999), eps=1e-8)
    for step in range(STEPS):
        expected = (weights * torch.exp(-z)).detach()
        torch.testing.assert_close(shared[step], expected, rtol=0, atol=LONG_RUN)
        adam.zero_grad()
        (weights * (torch.exp(-z) * losses[step, 0] + z / 2)).sum().backward()
        adam.step()
    assert torch.equal(shared, specific)
    assert (z.detach().abs() > 0.05).all()  # it did move


def test_dynamic_weight_averaging_compares_the_last_two_windows():
    losses, gradients = stream(1)
    shared, specific = alone("dwa", losses, gram_of(gradients))
    windows = [[float(x) for x in losses[k * 10 : k * 10 + 10, 0].mean(0)] for k in range(STEPS // 10)]
    for step in range(STEPS):
        k = step // DWA_WINDOW
        scale = [1.0] * T
        if k >= 2:
            scale = softmax([windows[k - 1][t] / windows[k - 2][t] / 2 for t in range(T)])
        expected = [w * s for w, s in zip(WEIGHTS, scale, strict=True)]
        assert shared[step].tolist() == pytest.approx(expected, abs=LONG_RUN)
    assert torch.equal(shared, specific)


def test_random_weights_are_one_draw_per_step_for_all_members():
    losses, gradients = stream(2, steps=4)
    shared, specific, _ = run([member("random"), member("random")], losses, gram_of(gradients))
    for step in range(4):
        scale = softmax(generator(SEED, "random weighting", step + 1).standard_normal(T))
        expected = [w * s for w, s in zip(WEIGHTS, scale, strict=True)]
        assert shared[step].tolist() == [pytest.approx(expected, abs=ROUNDING)] * 2
    assert torch.equal(shared, specific)
    assert not torch.equal(shared[0], shared[1])


def test_gradnorm_moves_scales_against_the_distance_from_the_target():
    losses, gradients = stream(1)
    shared, specific = alone("gradnorm", losses, gram_of(gradients))
    lam, start = [1.0] * T, losses[0, 0].tolist()
    for step in range(STEPS):
        expected = [w * s for w, s in zip(WEIGHTS, lam, strict=True)]
        assert shared[step].tolist() == pytest.approx(expected, abs=LONG_RUN)
        norm = [w * float(torch.linalg.norm(gradients[step, 0, t])) for t, w in enumerate(WEIGHTS)]
        scaled = [lam[t] * norm[t] for t in range(T)]
        ratio = [float(losses[step, 0, t]) / start[t] for t in range(T)]
        target = [sum(scaled) / T * (r / (sum(ratio) / T)) ** 1.5 for r in ratio]
        lam = [max(lam[t] - 0.025 * np.sign(scaled[t] - target[t]) * norm[t], 1e-3) for t in range(T)]
        lam = [T * value / sum(lam) for value in lam]
    assert torch.equal(shared, specific)
    assert min(lam) < 0.5 < max(lam)


def surgery(weighted, step):
    """Sum of the projected gradients: the algorithm on vectors."""
    total = np.zeros(weighted.shape[1])
    for i in range(len(weighted)):
        mine = weighted[i].copy()
        for j in generator(SEED, "pcgrad", step, i).permutation(len(weighted)):
            if j != i and mine @ weighted[j] < 0:
                mine -= mine @ weighted[j] / (weighted[j] @ weighted[j]) * weighted[j]
        total += mine
    return total


@pytest.mark.parametrize("n_tasks", [1, 2, 3, 5])
def test_pcgrad_is_surgery_on_the_gradient_vectors(n_tasks):
    steps, clashes = 12, 0
    weights = tuple(0.4 + 0.3 * t for t in range(n_tasks))
    losses, gradients = stream(1, steps, n_tasks)
    it = balancer([member("pcgrad", task_weights=weights)], n_tasks)
    for step in range(steps):
        found = it.coefficients(step + 1, losses[step], torch.ones(n_tasks).bool(), gram_of(gradients[step]))
        vectors = gradients[step, 0].numpy()
        weighted = np.array(weights)[:, None] * vectors
        np.testing.assert_allclose(found.shared[0].numpy() @ vectors, surgery(weighted, step + 1), atol=LONG_RUN)
        assert found.specific[0].tolist() == list(weights)
        clashes += bool((weighted @ weighted.T < 0).any())
    assert clashes or n_tasks == 1


@pytest.mark.parametrize("n_tasks", [1, 2, 3, 5])
def test_nash_solves_the_bargaining_equations(n_tasks):
    weights = tuple(0.4 + 0.3 * t for t in range(n_tasks))
    losses, gradients = stream(8, 1, n_tasks)
    it = balancer([member("nash", task_weights=weights)] * 8, n_tasks)
    found = it.coefficients(1, losses[0], torch.ones(n_tasks).bool(), gram_of(gradients[0]))
    for p in range(8):
        weighted = np.array(weights)[:, None] * gradients[0, p].numpy()
        gram = weighted @ weighted.T
        alpha = found.shared[p].numpy() / weights
        assert alpha.sum() == pytest.approx(n_tasks, abs=ROUNDING)
        # alpha is known up to its scale: at the solution alpha_t (K alpha)_t is the same number for all t
        shares = alpha * (gram @ alpha)
        np.testing.assert_allclose(shares, shares.mean(), rtol=ROUNDING)
        # from a start near by, for another solver does not always find a positive root
        start = alpha / np.sqrt(shares.mean()) * 1.1
        solved = root(lambda a, k=gram: k @ a - 1 / a, start, jac=lambda a, k=gram: k + np.diag(a**-2.0), tol=1e-14)
        np.testing.assert_allclose(alpha, n_tasks * solved.x / solved.x.sum(), rtol=LONG_RUN)
    assert torch.equal(found.shared, found.specific)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nash_of_singular_gram_matrices_stays_positive_and_finite(dtype):
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    sets = torch.stack(
        [
            torch.stack([x, -2 * x, y]),  # opposed: no finite solution, but its direction is known
            torch.stack([x, x, x]),
            torch.stack([x, y, -(x + y)]),
            torch.stack([1e-12 * x, 1e9 * y, x + y]),
        ]
    ).to(dtype)
    specs = [member("nash", task_weights=(1.0, 1.0, 1.0))] * 4
    found = balancer(specs).coefficients(1, torch.ones(4, T, dtype=dtype), ALL, gram_of(sets)).shared
    assert torch.isfinite(found).all()
    assert (found > 0).all()
    assert float(found[0, 0] / found[0, 1]) == pytest.approx(2, rel=1e-5)  # |g_1| = 2 |g_0|
    torch.testing.assert_close(found[1], torch.ones(T).double(), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("n_tasks", [2, 3, 8])
def test_nash_without_a_look_at_who_has_converged_gives_the_same_bits(n_tasks, monkeypatch):
    losses, gradients = stream(12, 1, n_tasks)
    gradients[0, :4, 1] = -2 * gradients[0, :4, 0]
    it = balancer([member("nash", task_weights=(1.0,) * n_tasks)] * 12, n_tasks)
    grams, labelled = gram_of(gradients[0].float()), torch.ones(n_tasks).bool()
    looked = it.coefficients(1, losses[0], labelled, grams).shared
    monkeypatch.setattr(nash, "_may_wait", lambda x: False)
    assert torch.equal(it.coefficients(1, losses[0], labelled, grams).shared, looked)


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_nash_without_a_sound_gram_matrix_keeps_the_task_weights(bad):
    found = balancer([member("nash")]).coefficients(1, torch.ones(1, T), ALL, torch.full((1, T, T), bad))
    torch.testing.assert_close(found.shared, torch.tensor([WEIGHTS], dtype=torch.float64), rtol=0, atol=1e-15)


def without_labels(losses, gradients, labelled):
    """What a batch without a label of a task gives: loss and gradient 0."""
    mask = labelled[:, None, :].to(losses)
    return losses * mask, gradients * mask.unsqueeze(3)


@pytest.mark.parametrize("kind", BALANCINGS)
def test_a_task_without_a_label_never_gives_nan(kind):
    losses, gradients = stream(1)
    labelled = torch.rand(STEPS, T, generator=torch.Generator().manual_seed(1)) < 0.6
    labelled[0] = torch.tensor([True, False, False])
    labelled[3], labelled[20:30, 1] = False, False
    losses, gradients = without_labels(losses, gradients, labelled)
    shared, specific, it = run([member(kind)], losses, gram_of(gradients), labelled)
    assert torch.isfinite(shared).all()
    assert torch.isfinite(specific).all()
    assert all(torch.isfinite(tensor).all() for tensor in it.state().values())


@pytest.mark.parametrize("kind", ["pcgrad", "nash"])
def test_a_task_without_a_label_is_left_out(kind):
    losses, gradients = stream(1, 1)
    labelled = torch.tensor([[True, False, True]])
    masked_losses, masked = without_labels(losses, gradients, labelled)
    found = balancer([member(kind)]).coefficients(1, masked_losses[0], labelled[0], gram_of(masked[0])).shared[0]
    assert float(found[1]) == WEIGHTS[1]
    if kind == "nash":
        both = (WEIGHTS[0], WEIGHTS[2])
        pair = balancer([member(kind, task_weights=both)], 2)
        expected = pair.coefficients(1, losses[0][:, [0, 2]], ALL[:2], gram_of(gradients[0][:, [0, 2]])).shared[0]
        torch.testing.assert_close(found[[0, 2]], expected, rtol=0, atol=ROUNDING)


def test_gradnorm_measures_progress_from_the_first_labelled_step():
    losses, gradients = stream(1, 2)
    labelled = torch.tensor([[True, True, False], [True, True, True]])
    masked_losses, masked = without_labels(losses, gradients, labelled)
    _, _, it = run([member("gradnorm")], masked_losses, gram_of(masked), labelled)
    expected = [float(losses[0, 0, 0]), float(losses[0, 0, 1]), float(losses[1, 0, 2])]
    assert it.state()["first_loss"].tolist() == [expected]


def mixed(n):
    rates = [0.01 * (1 + p) for p in range(n)]
    return [member(BALANCINGS[p % len(BALANCINGS)], learning_rate=rates[p]) for p in range(n)]


@pytest.mark.parametrize("subset", [[3], [16, 2], [0, 1, 2, 3, 4, 5, 6], [12, 5, 19, 6, 13], list(range(9, 20))])
def test_coefficients_are_independent_of_the_other_members(subset):
    specs = mixed(20)
    losses, gradients = stream(20)
    grams = gram_of(gradients).float()
    shared, specific, it = run(specs, losses.float(), grams)
    found = run([specs[p] for p in subset], losses.float()[:, subset], grams[:, subset])
    assert torch.equal(found[0], shared[:, subset])
    assert torch.equal(found[1], specific[:, subset])
    for name, tensor in found[2].state().items():
        assert torch.equal(tensor, it.state()[name][subset]), name


def test_state_continues_among_other_members():
    specs, subset, half = mixed(14), [13, 1, 4, 2], 17
    losses, gradients = stream(14)
    grams = gram_of(gradients)
    whole, _, _ = run(specs, losses, grams)
    _, _, it = run(specs, losses[:half], grams[:half])
    state = {name: tensor[subset] for name, tensor in it.state().items()}
    rest = run([specs[p] for p in subset], losses[half:, subset], grams[half:, subset], None, half + 1, state)
    assert torch.equal(rest[0], whole[half:, subset])


def test_every_kind_carries_state_of_the_same_names_and_shape():
    shapes = {
        frozenset((n, tuple(t.shape)) for n, t in balancer([member(kind)]).state().items()) for kind in BALANCINGS
    }
    assert len(shapes) == 1


def test_members_that_look_at_no_gradient_need_no_gram_matrix():
    specs = [member(kind) for kind in BALANCINGS if kind not in GRADIENT_BALANCINGS]
    losses, gradients = stream(len(specs), 30)
    grams = gram_of(gradients)
    one, other = balancer(specs), balancer(specs)
    assert not one.needs_gradients
    for step in range(1, 31):
        a = one.coefficients(step, losses[step - 1], ALL)
        b = other.coefficients(step, losses[step - 1], ALL, grams[step - 1])
        assert torch.equal(a.shared, b.shared)


@pytest.mark.parametrize("kind", sorted(GRADIENT_BALANCINGS))
def test_kinds_that_look_at_gradients_refuse_to_go_without(kind):
    it = balancer([member("fixed"), member(kind)])
    assert it.needs_gradients
    with pytest.raises(ValueError, match=f"{kind}.*needs the Gram matrix"):
        it.coefficients(1, torch.ones(2, T), ALL)


def test_coefficients_come_in_the_type_of_the_model():
    found = balancer(mixed(7), dtype=torch.float32).coefficients(1, torch.ones(7, T), ALL, torch.ones(7, T, T))
    assert (found.shared.dtype, found.specific.dtype) == (torch.float32, torch.float32)
