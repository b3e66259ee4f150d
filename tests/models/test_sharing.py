"""Every sharing mechanism against a loop over the rows of one member, and alone against in company."""

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch

from evorec.errors import ConfigError
from evorec.models.inputs import InputShape
from evorec.models.layers import DROPOUT_LEVELS, SHARED
from evorec.models.mechanism import attention, mixture
from evorec.models.sharing import (
    MECHANISMS,
    forward_macs,
    funnel_waves,
    mechanism_for,
    n_dense_parameters,
    sigmoid,
)
from evorec.models.spec import FUNNEL_MECHANISMS, ModelSpec
from evorec.models.spec import MECHANISMS as NAMES
from evorec.seeds import generator

EXACT = 1e-11  # float64: the loop adds in another order
N_TASKS, N_LAYERS, DIM, WIDTH, N_DENSE = 3, 2, 2, 4, 3
N_IN = 4 * DIM + N_DENSE

SHAPE = InputShape(
    n_rows=9, n_content=0, n_dense=N_DENSE, n_tasks=N_TASKS, n_layers=N_LAYERS, n_items=4, parents=(-1, 0, 1)
)
FORKED = replace(SHAPE, n_tasks=4, parents=(1, -1, 0, 1))
"""The second task starts the funnel; the first and the last follow it, the third follows the first."""
EXPERTS = ("mmoe", "cgc", "ple", "stem")

PLAIN = ModelSpec(
    task_weights=(1.0, 1.0, 1.0), mechanism="shared_bottom", sharing_depth=1, n_shared_experts=0, n_task_experts=0,
    task_embeddings=False, calibrator_weight=0.0, balancing="fixed", embedding_dim=DIM, width=WIDTH, dropout=0.0,
    optimizer="adamw", learning_rate=1e-3, embedding_learning_rate=1e-3, embedding_decay=0.0, dense_decay=0.0,
    retrieval_weight=1.0, retrieval_loss="softmax", negatives=8, negative_source="batch", gbce_calibration=0.0,
    temperature=0.2, history_weight=0.0, popularity_weight=1.0, popularity_smoothing=1.0, popularity_half_life=7.0,
    rank_blend=0.0,
)  # fmt: skip


def spec(mechanism, depth=None, **changes):
    """A valid spec of the mechanism: depth 1 and two experts of each kind where it has any."""
    own = mechanism in ("cgc", "ple", "stem")
    plain = {
        "sharing_depth": (0 if mechanism == "single_task" else 1) if depth is None else depth,
        "n_shared_experts": 2 if mechanism in EXPERTS else 0,
        "n_task_experts": 2 if own else 0,
        "task_embeddings": mechanism in ("single_task", "stem"),
        "calibrator_weight": 0.3 if mechanism == "aitm" else 0.0,
    }
    return replace(PLAIN, mechanism=mechanism, **{**plain, **changes})


def variants(shape=SHAPE):
    """Specs of every mechanism, at every depth, with and without task embeddings."""
    for name in NAMES:
        highest = 0 if name == "single_task" else shape.n_layers
        for depth in range(1 if name in EXPERTS else 0, highest + 1):
            for own_tables in (False, True) if name not in ("single_task", "stem") else (True,):
                yield spec(name, depth, task_embeddings=own_tables, dropout=0.25)


every_variant = pytest.mark.parametrize(
    "member", list(variants()), ids=lambda s: f"{s.mechanism}-{s.sharing_depth}-{s.task_embeddings}"
)
every_mechanism = pytest.mark.parametrize("name", NAMES)


def ranker_input(identity, mechanism, batch, dtype=torch.float64):
    """``[G, B, n_in]`` of the member that is known by a number."""
    n_in = mechanism.shape.layer_inputs(mechanism.specs[0].embedding_dim, mechanism.specs[0].width)[0]
    draw = generator(identity, "test input").standard_normal((mechanism.n_groups, batch, n_in))
    return torch.tensor(draw, dtype=dtype)


def parameters(identities, mechanism, dtype=torch.float64):
    """Random parameters by name: a member's depend on its number and on the streams' keys alone."""
    out = {}
    for tensor in mechanism.tensors:
        draws = [
            generator(identities[member], f"test {tensor.name}", *key).standard_normal(tensor.shape) * 0.5
            for member, key in zip(tensor.member, tensor.key, strict=True)
        ]
        out[tensor.name] = torch.tensor(np.stack(draws), dtype=dtype, requires_grad=True)
    return out


def dropout_draws(level, batch, width):
    """int16 ``[B, W]``, the same for every member."""
    draws = generator(5, "test dropout", level).integers(0, DROPOUT_LEVELS, (batch, width))
    return torch.tensor(draws, dtype=torch.int16)


# The reference: one member, one row at a time, in the words of the papers.


class Loop:
    """One member's forward pass, row by row."""

    def __init__(self, member, shape, dense):
        self.spec, self.shape, self.dense = member, shape, dense
        self.tasks = range(shape.n_tasks)

    def logits(self, x):
        """``[G, B, n_in] -> [T, B]``."""
        rows = []
        for b in range(x.shape[1]):
            self.row, self.batch = b, x.shape[1]
            inputs = {task: x[task + 1 if self.spec.task_embeddings else 0, b] for task in self.tasks}
            inputs[SHARED] = x[0, b]
            family = {"single_task": "towers", "shared_bottom": "towers", "mmoe": "one_stage", "cgc": "one_stage"}
            run = getattr(self, family.get(self.spec.mechanism, self.spec.mechanism))
            rows.append(torch.stack(run(inputs)))
        return torch.stack(rows, 1)

    def layer(self, level, slot, v):
        weight, bias = self.dense[f"layer{level}.weight"][slot], self.dense[f"layer{level}.bias"][slot, 0]
        draw = dropout_draws(level, self.batch, len(bias))[self.row]
        kept = (draw.double() >= self.spec.dropout * DROPOUT_LEVELS).double()
        return torch.relu(v @ weight + bias) * kept / (1 - self.spec.dropout)

    def head(self, task, v):
        return (v @ self.dense["head.weight"][task] + self.dense["head.bias"][task, 0])[0]

    def tops(self, inputs):
        """Shared layers below the sharing depth, then a tower per task."""
        v = dict(inputs)
        for level in range(self.shape.n_layers):
            if level < self.spec.sharing_depth:
                v = dict.fromkeys(v, self.layer(level, 0, v[SHARED]))
            else:
                v = {task: self.layer(level, task, v[task]) for task in self.tasks}
        return v

    def towers(self, inputs):
        tops = self.tops(inputs)
        return [self.head(task, tops[task]) for task in self.tasks]

    def esmm(self, inputs):
        own = self.towers(inputs)
        out = []
        for task in self.tasks:
            p, at = torch.ones((), dtype=torch.float64), task
            while at >= 0:
                p, at = p * torch.sigmoid(own[at]), self.shape.parents[at]
            out.append(torch.log(p) - torch.log(1 - p))
        return out

    def aitm(self, inputs):
        q = self.tops(inputs)
        children = [task for task in self.tasks if self.shape.parents[task] >= 0]
        z = {}
        while len(z) < len(self.tasks):
            for task in self.tasks:
                parent = self.shape.parents[task]
                if task in z or (parent >= 0 and parent not in z):
                    continue
                if parent < 0:
                    z[task] = q[task]
                    continue
                i = children.index(task)
                p = torch.relu(z[parent] @ self.dense["info.weight"][i] + self.dense["info.bias"][i, 0])
                query, key, value = (self.dense[f"{name}.weight"][i] for name in ("query", "key", "value"))
                scores = [((c @ query) @ (c @ key)) / self.spec.width**0.5 for c in (q[task], p)]
                total = sum(torch.exp(score) for score in scores)
                z[task] = sum(torch.exp(a) / total * (c @ value) for a, c in zip(scores, (q[task], p), strict=True))
        return [self.head(task, z[task]) for task in self.tasks]

    def cross_stitch(self, inputs):
        v = inputs
        for level in range(self.shape.n_layers):
            h = [self.layer(level, task, v[task]) for task in self.tasks]
            if level < self.spec.sharing_depth:
                a = self.dense[f"stitch{level}.weight"][0]
                h = [sum(a[task, other] * h[other] for other in self.tasks) for task in self.tasks]
            v = dict(enumerate(h))
        return [self.head(task, v[task]) for task in self.tasks]

    def experts(self):
        """Owner of each expert: every task's own first, then the shared ones."""
        return [t for t in self.tasks for _ in range(self.spec.n_task_experts)] + [SHARED] * self.spec.n_shared_experts

    def mix(self, gate, slot, v, outputs):
        shares = torch.softmax(v @ self.dense[f"{gate}.weight"][slot], 0)
        assert len(shares) == len(outputs)
        return sum(share * output for share, output in zip(shares, outputs, strict=True))

    def one_stage(self, inputs):
        outputs = []
        for slot, owner in enumerate(self.experts()):
            v = inputs[owner]
            for level in range(self.spec.sharing_depth):
                v = self.layer(level, slot, v)
            outputs.append(v)
        streams = {}
        for task in self.tasks:
            if self.spec.mechanism == "stem":
                seen = [v if o in (task, SHARED) else v.detach() for o, v in zip(self.experts(), outputs, strict=True)]
            else:
                seen = [v for owner, v in zip(self.experts(), outputs, strict=True) if owner in (task, SHARED)]
            streams[task] = self.mix(f"gate{self.spec.sharing_depth - 1}", task, inputs[task], seen)
        return self.finish(streams)

    stem = one_stage

    def ple(self, inputs):
        streams = inputs
        for level in range(self.spec.sharing_depth):
            outputs = [self.layer(level, slot, streams[owner]) for slot, owner in enumerate(self.experts())]
            mixed = {}
            for task in self.tasks:
                seen = [v for owner, v in zip(self.experts(), outputs, strict=True) if owner in (task, SHARED)]
                mixed[task] = self.mix(f"gate{level}", task, streams[task], seen)
            if level < self.spec.sharing_depth - 1:
                mixed[SHARED] = self.mix(f"shared_gate{level}", 0, streams[SHARED], outputs)
            streams = mixed
        return self.finish(streams)

    def finish(self, streams):
        for level in range(self.spec.sharing_depth, self.shape.n_layers):
            streams = {task: self.layer(level, task, streams[task]) for task in self.tasks}
        return [self.head(task, streams[task]) for task in self.tasks]


def gradients(logits, leaves):
    """Of a sum in which every logit has its own weight."""
    weights = torch.tensor(generator(1, "test loss").standard_normal(logits.shape[-2:]), dtype=logits.dtype)
    grads = torch.autograd.grad((logits * weights).sum(), leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, grads, strict=True)]


def check_against_the_loop(member, shape, batch=3):
    mechanism = mechanism_for([member], shape)
    dense, x = parameters([7], mechanism), ranker_input(7, mechanism, batch).requires_grad_()
    rates = torch.tensor([member.dropout], dtype=torch.float64)
    leaves = [x, *dense.values()]
    expected = Loop(member, shape, dense).logits(x)
    # the loop first: `keep=False` lets the backward pass overwrite activations
    expected_gradients = gradients(expected, leaves)
    found = mechanism.logits(x[None], dense, rates, dropout_draws)[0]
    torch.testing.assert_close(found, expected, rtol=EXACT, atol=EXACT)
    for name, a, b in zip(["x", *dense], gradients(found, leaves), expected_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=EXACT, atol=EXACT, msg=lambda m, name=name: f"{name}: {m}")


@every_variant
def test_logits_and_gradients_are_those_of_a_loop_over_rows(member):
    check_against_the_loop(member, SHAPE)


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(FUNNEL_MECHANISMS))
def test_a_forked_funnel_in_any_order_is_that_of_the_loop(name, depth):
    check_against_the_loop(spec(name, depth), FORKED)


@every_mechanism
def test_one_task_alone_works_where_no_funnel_is_needed(name):
    if name not in FUNNEL_MECHANISMS:
        check_against_the_loop(spec(name), replace(SHAPE, n_tasks=1, parents=(-1,)))


def test_three_extraction_levels_have_a_shared_gate_on_all_but_the_last():
    deep = replace(SHAPE, n_layers=3)
    check_against_the_loop(spec("ple", 3), deep)
    names = {tensor.name for tensor in mechanism_for([spec("ple", 3)], deep).tensors}
    assert {name for name in names if "shared" in name} == {"shared_gate0.weight", "shared_gate1.weight"}


@every_variant
def test_a_graph_that_is_walked_twice_gives_the_same_gradients(member):
    mechanism = mechanism_for([member], SHAPE)
    dense, x = parameters([7], mechanism), ranker_input(7, mechanism, 3).requires_grad_()
    logits = mechanism.logits(x[None], dense, torch.tensor([0.25]).double(), dropout_draws, keep=True)[0]
    walks = [torch.autograd.grad(logits.sum(), [x, *dense.values()], retain_graph=True) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*walks, strict=True))


# Gates.


def gate_shapes(member):
    tensors = mechanism_for([member], SHAPE).tensors
    return {t.name.removesuffix(".weight"): (t.n_slots, *t.shape) for t in tensors if "gate" in t.name}


def test_gates_see_what_the_papers_say():
    # three tasks, two experts of each and two shared
    assert gate_shapes(spec("mmoe", 2)) == {"gate1": (3, N_IN, 2)}
    assert gate_shapes(spec("cgc", 2)) == {"gate1": (3, N_IN, 4)}
    assert gate_shapes(spec("stem", 2)) == {"gate1": (3, N_IN, 8)}
    assert gate_shapes(spec("ple", 2)) == {"gate0": (3, N_IN, 4), "shared_gate0": (1, N_IN, 8), "gate1": (3, WIDTH, 4)}


def test_a_stem_gate_sends_no_gradient_to_the_experts_of_other_tasks():
    mechanism = mechanism_for([spec("stem", 2)], SHAPE)
    dense = parameters([7], mechanism)
    owner = [0, 0, 1, 1, 2, 2, SHARED, SHARED]
    for task in range(N_TASKS):
        logits = mechanism.logits(ranker_input(7, mechanism, 40)[None], dense, torch.zeros(1).double(), None)
        names = ["layer0.weight", "layer1.weight", "gate1.weight"]
        *experts, gate = torch.autograd.grad(logits[0, task].sum(), [dense[name] for name in names])
        for grad in experts:
            assert [bool(g.any()) for g in grad] == [o in (task, SHARED) for o in owner]
        assert bool((gate[task] != 0).any(0).all()), "the gate itself learns from all experts"


def test_gradients_of_a_mixture_are_its_derivatives():
    rng = torch.Generator().manual_seed(0)
    experts = torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=rng, requires_grad=True)
    gates = [torch.randn(2, 2, 2, 3, dtype=torch.float64, generator=rng, requires_grad=True)]
    gates.append(torch.randn(2, 1, 4, 3, dtype=torch.float64, generator=rng, requires_grad=True))
    reads = ((0, 3), (1, 3), (0, 1, 2, 3))
    assert torch.autograd.gradcheck(lambda e, *g: mixture(e, g, reads), (experts, *gates))
    out = mixture(experts, gates, reads, ((0,), (), (0, 1)))
    (to_experts,) = torch.autograd.grad(out.sum(), experts)
    assert [bool(to_experts[:, k].any()) for k in range(4)] == [True, True, False, False]


def test_gradients_of_an_attention_are_its_derivatives():
    rng = torch.Generator().manual_seed(0)
    candidates = [torch.randn(2, 3, 12, dtype=torch.float64, generator=rng, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *c: attention(c), candidates)


# Funnels.


def test_esmm_multiplies_probabilities_and_never_rises_down_the_funnel():
    mechanism = mechanism_for([spec("esmm")], SHAPE)
    dense = {name: t.detach() for name, t in parameters([3], mechanism).items()}
    x = ranker_input(3, mechanism, 500)[None] * 3
    p = torch.sigmoid(mechanism.logits(x, dense, torch.zeros(1).double(), None))[0]
    plain = mechanism_for([spec("shared_bottom")], SHAPE)
    steps = torch.sigmoid(plain.logits(x, dense, torch.zeros(1).double(), None))[0]
    torch.testing.assert_close(p, torch.cumprod(steps, 0), rtol=1e-9, atol=1e-12)
    assert bool((p.diff(dim=0) <= 0).all())


@pytest.mark.parametrize("bias", [-300.0, -30.0, 0.0, 30.0, 300.0])
def test_esmm_stays_finite_at_any_logit(bias):
    mechanism = mechanism_for([spec("esmm")], SHAPE)
    dense = {name: torch.zeros_like(t, dtype=torch.float32) for name, t in parameters([3], mechanism).items()}
    dense["head.bias"] = torch.full((N_TASKS, 1, 1), bias, requires_grad=True)
    logits = mechanism.logits(torch.zeros(1, 1, 2, N_IN), dense, torch.zeros(1), None)
    assert bool((logits.diff(dim=1) <= 0).all())
    (grad,) = torch.autograd.grad(logits.sum(), dense["head.bias"])
    assert bool(torch.isfinite(logits).all())
    assert bool(torch.isfinite(grad).all())


def test_a_fresh_esmm_predicts_the_base_rates():
    rates = (0.4, 0.1, 0.02)
    members = [spec("esmm"), spec("shared_bottom")]
    mechanism = mechanism_for(members, SHAPE)
    bias = mechanism.initial_bias([log(rate / (1 - rate)) for rate in rates])
    dense = {name: torch.zeros_like(t) for name, t in parameters([1, 2], mechanism).items()}
    dense["head.bias"] = torch.tensor(bias).reshape(-1, 1, 1)
    logits = mechanism.logits(torch.zeros(2, 1, 1, N_IN).double(), dense, torch.zeros(2).double(), None)
    for row in torch.sigmoid(logits)[..., 0].tolist():
        assert row == pytest.approx(rates)


def test_the_calibrator_counts_steps_that_exceed_the_one_before():
    members = [spec("aitm", calibrator_weight=weight) for weight in (0.0, 0.5)]
    mechanism = mechanism_for(members, SHAPE)
    logits = torch.tensor(generator(0, "test").standard_normal((2, N_TASKS, 5)), requires_grad=True)
    expected = 0.0
    for task, parent in ((1, 0), (2, 1)):
        steps = zip(logits[1, task].tolist(), logits[1, parent].tolist(), strict=True)
        expected += sum(max(1 / (1 + exp(-a)) - 1 / (1 + exp(-b)), 0.0) for a, b in steps) / 5
    assert mechanism.extra_loss(logits).tolist() == pytest.approx([0.0, 0.5 * expected])
    assert torch.autograd.gradcheck(mechanism.extra_loss, (logits,))
    assert mechanism_for(members[:1], SHAPE).extra_loss(logits[:1]) is None
    assert mechanism_for([spec("esmm")], SHAPE).extra_loss(logits[:1]) is None


def test_sigmoid_is_finite_and_the_same_wherever_a_number_stands():
    x = torch.linspace(-200, 200, 203, requires_grad=True)
    torch.testing.assert_close(sigmoid(x), torch.sigmoid(x))
    (grad,) = torch.autograd.grad(sigmoid(x).sum(), x)
    assert bool(torch.isfinite(grad).all())
    whole = sigmoid(x)
    assert all(torch.equal(sigmoid(x[:n]), whole[:n]) for n in range(203))


# Company.

BATCH = 37  # odd: remainders of vectorised kernels are in use
FAMILIES = (
    ("towers", [spec("shared_bottom", d) for d in (0, 1, 2)] + [spec("esmm", d) for d in (2, 0, 1)]),
    ("own tables", [spec("single_task"), spec("shared_bottom", 2, task_embeddings=True)] * 2
     + [spec("esmm", 1, task_embeddings=True)]),
    ("aitm", [spec("aitm", d) for d in (1, 0, 2, 2, 1)]),
    *((f"{name} {depth} {own}", [spec(name, depth, task_embeddings=own)] * 4)
      for name in ("cross_stitch", *EXPERTS) for depth in (1, 2) for own in (False, True) if own or name != "stem"),
)  # fmt: skip


def results(specs, identities, dtype, width):
    """Logits and gradients of each member, as a list of arrays by member."""
    members = [replace(s, dropout=0.1 * (i % 5), width=width) for s, i in zip(specs, identities, strict=True)]
    mechanism = mechanism_for(members, SHAPE)
    dense = {name: t.detach().to(dtype).requires_grad_() for name, t in parameters(identities, mechanism).items()}
    x = torch.stack([ranker_input(i, mechanism, BATCH) for i in identities]).to(dtype).requires_grad_()
    rates = torch.tensor([member.dropout for member in members], dtype=dtype)
    logits = mechanism.logits(x, dense, rates, dropout_draws)
    extra = mechanism.extra_loss(logits)
    loss = (logits * torch.linspace(-1, 1, BATCH)).sum() + (0 if extra is None else extra.sum())
    grads = torch.autograd.grad(loss, [x, *dense.values()])
    owners = [tuple(range(len(members))), *(tensor.member for tensor in mechanism.tensors)]

    def own(p):
        slots = [[s for s, o in enumerate(owner) if o == p] for owner in owners]
        return [logits[p].detach(), *(grad[mine] for grad, mine in zip(grads, slots, strict=True))]

    return [own(p) for p in range(len(members))]


@pytest.mark.parametrize("width", [4, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("specs", [specs for _, specs in FAMILIES], ids=[name for name, _ in FAMILIES])
def test_a_member_is_the_same_to_the_bit_alone_permuted_and_in_other_company(specs, dtype, width):
    identities = list(range(10, 10 + len(specs)))
    together = results(specs, identities, dtype, width)
    order = [2, 0, 3, 1, *range(4, len(specs))]
    companies = [([p], identities) for p in range(len(specs))] + [(order, identities), ([1, 3], identities)]
    for company, names in companies:
        found = results([specs[p] for p in company], [names[p] for p in company], dtype, width)
        for p, arrays in zip(company, found, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(arrays, together[p], strict=True)), (company, p)


# Parameters.


@every_variant
def test_a_specific_parameter_is_reached_by_its_own_loss_alone_and_a_shared_one_by_several(member):
    mechanism = mechanism_for([replace(member, dropout=0.0)], SHAPE)
    dense = parameters([7], mechanism)
    logits = mechanism.logits(ranker_input(7, mechanism, 60)[None], dense, torch.zeros(1).double(), None, keep=True)
    reached = []
    for task in range(N_TASKS):
        grads = torch.autograd.grad(logits[0, task].sum(), list(dense.values()), retain_graph=True, allow_unused=True)
        reached.append([None if g is None else g.flatten(1).any(1) for g in grads])
    for i, tensor in enumerate(mechanism.tensors):
        for slot, tag in enumerate(tensor.task):
            tasks = [t for t in range(N_TASKS) if reached[t][i] is not None and bool(reached[t][i][slot])]
            assert tasks == [tag] if tag != SHARED else len(tasks) > 1, (tensor.name, slot, tag, tasks)


@every_variant
def test_streams_of_draws_are_those_of_the_role_whoever_is_beside(member):
    alone, beside = mechanism_for([member], SHAPE), mechanism_for([member] * 3, SHAPE)
    keys = [key for tensor in alone.tensors if not tensor.name.endswith("bias") for key in tensor.key]
    assert len(set(keys)) == len(keys)
    for a, b in zip(alone.tensors, beside.tensors, strict=True):
        assert (b.name, b.key, b.task) == (a.name, a.key * 3, a.task * 3)
        assert b.member == tuple(p for p in range(3) for _ in a.key)


def test_initial_scales_are_he_for_layers_and_unit_variance_for_gates_and_heads():
    by_name = {t.name: t for name in ("ple", "cross_stitch") for t in mechanism_for([spec(name, 2)], SHAPE).tensors}
    assert by_name["layer0.weight"].scale == pytest.approx((2 / N_IN) ** 0.5)
    assert by_name["layer1.weight"].scale == pytest.approx((2 / WIDTH) ** 0.5)
    assert by_name["gate0.weight"].scale == pytest.approx((1 / N_IN) ** 0.5)
    assert by_name["head.weight"].scale == pytest.approx((1 / WIDTH) ** 0.5)
    assert by_name["layer0.bias"].scale == by_name["head.bias"].scale == 0
    stitch = by_name["stitch0.weight"]
    assert stitch.fixed == pytest.approx(np.array([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]]))
    decayed = {name for name, t in by_name.items() if t.decayed}
    assert decayed == {name for name in by_name if name.endswith("weight") and not name.startswith("stitch")}


# by hand: 11 inputs, width 4, 3 tasks, 2 layers, heads 3 * 4 (+ 3 biases); 2 experts of each kind
COSTS = (
    (spec("single_task"), 3 * 44 + 3 * 16 + 12, 3 * 48 + 3 * 20 + 15),
    (spec("shared_bottom"), 44 + 3 * 16 + 12, 48 + 3 * 20 + 15),
    (spec("esmm"), 44 + 3 * 16 + 12, 48 + 3 * 20 + 15),
    # two transfers: info, three maps of two candidates, two scores and a sum of two
    (spec("aitm"), 104 + 2 * (16 + 6 * 16 + 4 * 4), 123 + 2 * (20 + 3 * 16)),
    (spec("cross_stitch"), 3 * 44 + 3 * 16 + 12 + 9 * 4, 219 + 9),
    (spec("mmoe"), 2 * 44 + 3 * (11 * 2 + 2 * 4) + 3 * 16 + 12, 2 * 48 + 3 * 22 + 3 * 20 + 15),
    (spec("cgc"), 8 * 44 + 3 * (11 * 4 + 4 * 4) + 3 * 16 + 12, 8 * 48 + 3 * 44 + 3 * 20 + 15),
    (spec("stem"), 8 * 44 + 3 * (11 * 8 + 8 * 4) + 3 * 16 + 12, 8 * 48 + 3 * 88 + 3 * 20 + 15),
    # two levels of experts, gates of 4 of 11 and of 4 inputs, a shared gate of 8
    (
        spec("ple", 2),
        8 * 44 + 8 * 16 + 3 * (44 + 16) + (88 + 32) + 3 * (16 + 16) + 12,
        8 * 48 + 8 * 20 + 3 * 44 + 88 + 3 * 16 + 15,
    ),
)


@pytest.mark.parametrize(("member", "macs", "n_parameters"), COSTS, ids=lambda v: getattr(v, "mechanism", ""))
def test_costs_are_those_counted_by_hand(member, macs, n_parameters):
    assert forward_macs(member, SHAPE) == macs
    assert n_dense_parameters(member, SHAPE) == n_parameters


# Refusals.


def test_every_mechanism_of_a_spec_has_a_program():
    assert set(MECHANISMS) == set(NAMES)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (replace(PLAIN, mechanism="mixer"), "mixer: unknown mechanism; expected one of single_task"),
        (spec("shared_bottom", 3), r"sharing_depth must be in 0\.\.2, got 3"),
        (spec("single_task", 1), r"sharing_depth must be in 0\.\.0, got 1"),
        (spec("cgc", 0), r"sharing_depth must be in 1\.\.2, got 0"),
        (spec("mmoe", n_shared_experts=0), "n_shared_experts must be at least 1, got 0"),
        (spec("mmoe", n_task_experts=1), "n_task_experts must be 0, got 1"),
        (spec("ple", n_task_experts=0), "n_task_experts must be at least 1, got 0"),
        (spec("stem", task_embeddings=False), "stem: task_embeddings must be true"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_spec_that_has_no_program_is_refused(member, message):
    with pytest.raises(ConfigError, match=message):
        mechanism_for([member], SHAPE)


@pytest.mark.parametrize("name", sorted(FUNNEL_MECHANISMS))
def test_a_funnel_mechanism_is_refused_without_a_funnel(name):
    with pytest.raises(ConfigError, match=f"{name}: needs a funnel, but no task has a parent"):
        mechanism_for([spec(name)], replace(SHAPE, parents=(-1, -1, -1)))


@pytest.mark.parametrize("parents", [(-1, 2, 1), (0, -1, -1), (-1, 0, 7)])
def test_a_funnel_in_a_circle_is_refused(parents):
    with pytest.raises(ConfigError, match="without a circle"):
        funnel_waves(parents)


def test_members_of_two_keys_are_no_block():
    with pytest.raises(ConfigError, match="one block_key"):
        mechanism_for([spec("cgc", 1), spec("cgc", 2)], SHAPE)
