"""Every sharing mechanism against a loop over the rows of one member, and single members against several."""

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch
from reference_mechanisms import REFERENCES
from tiny import EXPERTS, FUNNEL_MECHANISMS, MECHANISMS, of_mechanism

from evorec.errors import ConfigError
from evorec.models.choice import MECHANISMS as REGISTRY
from evorec.models.forward import ForwardPass, attention, mixture, sigmoid
from evorec.models.input_shape import InputShape
from evorec.models.layers import DROPOUT_LEVELS
from evorec.models.mechanism import build_network, forward_macs, n_dense_parameters
from evorec.models.slots import SHARED, funnel_waves
from evorec.models.spec import ModelSpec
from evorec.seeds import generator

EXACT = 1e-11  # float64: the loop adds in another order
N_TASKS, N_LAYERS, DIM, WIDTH, N_DENSE = 3, 2, 2, 4, 3
N_IN = 4 * DIM + N_DENSE

SHAPE = InputShape(
    n_rows=9, n_content=0, n_dense=N_DENSE, n_tasks=N_TASKS, n_layers=N_LAYERS, n_items=4, parents=(-1, 0, 1)
)
FORKED = replace(SHAPE, n_tasks=4, parents=(1, -1, 0, 1))
"""The second task starts the funnel; the first and the last follow it, the third follows the first."""

PLAIN = ModelSpec(
    task_weights=(1.0, 1.0, 1.0), mechanism="shared_bottom", sharing_depth=1, task_embeddings=False, balancing="fixed",
    embedding_dim=DIM, width=WIDTH, dropout=0.0,
    optimizer="adamw", learning_rate=1e-3, embedding_learning_rate=1e-3, embedding_decay=0.0, dense_decay=0.0,
    retrieval_weight=1.0, retrieval_loss="softmax", negatives=8, negative_source="batch",
    temperature=0.2, history_weight=0.0, popularity_weight=1.0, popularity_smoothing=1.0, popularity_half_life=7.0,
    rank_blend=0.0,
)  # fmt: skip


def spec(mechanism, depth=None, **changes):
    """A valid spec of the mechanism: depth 1 and two experts of each kind where it has any."""
    fixed = of_mechanism(mechanism)
    own = {name: 2 if name.endswith("experts") else value for name, value in fixed.pop("settings").items()}
    own |= {name: changes.pop(name) for name in list(changes) if name in own}
    depth = fixed.pop("sharing_depth", 1) if depth is None else depth
    return replace(PLAIN, **{**fixed, "sharing_depth": depth, "settings": tuple(sorted(own.items())), **changes})


def variants(shape=SHAPE):
    """Specs of every mechanism, at every depth, with and without task embeddings."""
    for name in MECHANISMS:
        highest = 0 if name == "single_task" else shape.n_layers
        for depth in range(1 if name in EXPERTS else 0, highest + 1):
            for own_tables in (False, True) if name not in ("single_task", "stem") else (True,):
                yield spec(name, depth, task_embeddings=own_tables, dropout=0.25)


every_variant = pytest.mark.parametrize(
    "member", list(variants()), ids=lambda s: f"{s.mechanism}-{s.sharing_depth}-{s.task_embeddings}"
)
every_mechanism = pytest.mark.parametrize("name", MECHANISMS)


def ranker_input(identity, network, batch, dtype=torch.float64):
    """``[G, B, n_in]`` of the member that is known by a number."""
    n_in = network.shape.layer_inputs(network.specs[0].embedding_dim, network.specs[0].width)[0]
    draw = generator(identity, "test input").standard_normal((network.n_groups, batch, n_in))
    return torch.tensor(draw, dtype=dtype)


def parameters(identities, network, dtype=torch.float64):
    """Random parameters by name: a member's depend on its number and on the streams' keys alone."""
    out = {}
    for tensor in network.tensors:
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


def dropper(rate):
    """Dropout of the reference with the draws above."""

    def dropped(level, x):
        kept = dropout_draws(level, *x.shape).double() >= rate * DROPOUT_LEVELS
        return x * kept / (1 - rate)

    return dropped


def gradients(logits, leaves):
    """Of a sum in which every logit has its own weight."""
    weights = torch.tensor(generator(1, "test loss").standard_normal(logits.shape[-2:]), dtype=logits.dtype)
    grads = torch.autograd.grad((logits * weights).sum(), leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, grads, strict=True)]


def check_against_the_reference(member, shape, batch=3):
    network = build_network([member], shape)
    dense, x = parameters([7], network), ranker_input(7, network, batch).requires_grad_()
    n_in = shape.layer_inputs(member.embedding_dim, member.width)[0]
    model = REFERENCES[member.mechanism](member, n_in, shape.n_layers, shape.parents).double()
    pairs = model.pairs({name: tensor.detach() for name, tensor in dense.items()})
    assert {id(parameter) for parameter, _ in pairs} == {id(parameter) for parameter in model.parameters()}
    for parameter, values in pairs:
        parameter.data = values.clone()
    expected = torch.stack(model(list(x), dropper(member.dropout)))
    found = network.logits(ForwardPass(dense, [member.dropout], dropout_draws), x[None])[0]
    torch.testing.assert_close(found, expected, rtol=EXACT, atol=EXACT)
    to_x, *to_parameters = gradients(expected, [x, *(parameter for parameter, _ in pairs)])
    own_to_x, *own = gradients(found, [x, *dense.values()])
    torch.testing.assert_close(own_to_x, to_x, rtol=EXACT, atol=EXACT)
    of_arrays = model.pairs(dict(zip(dense, own, strict=True)))
    for (_, values), gradient in zip(of_arrays, to_parameters, strict=True):
        torch.testing.assert_close(values, gradient, rtol=EXACT, atol=EXACT)


@every_variant
def test_logits_and_gradients_are_those_of_the_reference(member):
    check_against_the_reference(member, SHAPE)


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(FUNNEL_MECHANISMS))
def test_a_forked_funnel_in_any_order_is_that_of_the_reference(name, depth):
    check_against_the_reference(spec(name, depth), FORKED)


@every_mechanism
def test_a_single_task_works_where_no_funnel_is_needed(name):
    if name not in FUNNEL_MECHANISMS:
        check_against_the_reference(spec(name), replace(SHAPE, n_tasks=1, parents=(-1,)))


def test_three_extraction_levels_have_a_shared_gate_on_all_but_the_last():
    deep = replace(SHAPE, n_layers=3)
    check_against_the_reference(spec("ple", 3), deep)
    names = {tensor.name for tensor in build_network([spec("ple", 3)], deep).tensors}
    assert {name for name in names if "shared" in name} == {"shared_gate0.weight", "shared_gate1.weight"}


@every_variant
def test_a_graph_that_is_walked_twice_gives_the_same_gradients(member):
    network = build_network([member], SHAPE)
    dense, x = parameters([7], network), ranker_input(7, network, 3).requires_grad_()
    logits = network.logits(ForwardPass(dense, [0.25], dropout_draws, keep=True), x[None])[0]
    walks = [torch.autograd.grad(logits.sum(), [x, *dense.values()], retain_graph=True) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*walks, strict=True))


def test_slots_worked_by_hand():
    # two tasks, two layers: member 0 has towers from the start, member 1 shares layer 0, member 2 shares both
    shape = replace(SHAPE, n_tasks=2, parents=(-1, -1))
    network = build_network([spec("shared_bottom", depth) for depth in (0, 1, 2)], shape)
    first, second = network.layers
    assert (first.member, first.task, first.source) == ((0, 0, 1, 2), (0, 1, SHARED, SHARED), (0, 0, 1, 2))
    assert (second.member, second.task) == ((0, 0, 1, 1, 2), (0, 1, 0, 1, SHARED))
    assert second.source == (0, 1, 2, 2, 3)
    assert network.tops == (0, 1, 2, 3, 4, 4)


# Gates.


def gate_shapes(member):
    tensors = build_network([member], SHAPE).tensors
    return {t.name.removesuffix(".weight"): (t.n_slots, *t.shape) for t in tensors if "gate" in t.name}


def test_gates_see_what_the_papers_say():
    # three tasks, two experts of each and two shared
    assert gate_shapes(spec("mmoe", 2)) == {"gate1": (3, N_IN, 2)}
    assert gate_shapes(spec("cgc", 2)) == {"gate1": (3, N_IN, 4)}
    assert gate_shapes(spec("stem", 2)) == {"gate1": (3, N_IN, 8)}
    assert gate_shapes(spec("ple", 2)) == {"gate0": (3, N_IN, 4), "shared_gate0": (1, N_IN, 8), "gate1": (3, WIDTH, 4)}


def test_a_stem_gate_sends_no_gradient_to_the_experts_of_other_tasks():
    network = build_network([spec("stem", 2)], SHAPE)
    dense = parameters([7], network)
    owner = [0, 0, 1, 1, 2, 2, SHARED, SHARED]
    for task in range(N_TASKS):
        logits = network.logits(ForwardPass(dense, [0.0]), ranker_input(7, network, 40)[None])
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
    network = build_network([spec("esmm")], SHAPE)
    dense = {name: t.detach() for name, t in parameters([3], network).items()}
    x = ranker_input(3, network, 500)[None] * 3
    p = torch.sigmoid(network.logits(ForwardPass(dense, [0.0]), x))[0]
    plain = build_network([spec("shared_bottom")], SHAPE)
    steps = torch.sigmoid(plain.logits(ForwardPass(dense, [0.0]), x))[0]
    torch.testing.assert_close(p, torch.cumprod(steps, 0), rtol=1e-9, atol=1e-12)
    assert bool((p.diff(dim=0) <= 0).all())


@pytest.mark.parametrize("bias", [-300.0, -30.0, 0.0, 30.0, 300.0])
def test_esmm_stays_finite_at_any_logit(bias):
    network = build_network([spec("esmm")], SHAPE)
    dense = {name: torch.zeros_like(t, dtype=torch.float32) for name, t in parameters([3], network).items()}
    dense["head.bias"] = torch.full((N_TASKS, 1, 1), bias, requires_grad=True)
    logits = network.logits(ForwardPass(dense, [0.0]), torch.zeros(1, 1, 2, N_IN))
    assert bool((logits.diff(dim=1) <= 0).all())
    (grad,) = torch.autograd.grad(logits.sum(), dense["head.bias"])
    assert bool(torch.isfinite(logits).all())
    assert bool(torch.isfinite(grad).all())


def test_a_fresh_esmm_predicts_the_base_rates():
    rates = (0.4, 0.1, 0.02)
    members = [spec("esmm"), spec("shared_bottom")]
    network = build_network(members, SHAPE)
    bias = network.initial_bias([log(rate / (1 - rate)) for rate in rates])
    dense = {name: torch.zeros_like(t) for name, t in parameters([1, 2], network).items()}
    dense["head.bias"] = torch.tensor(bias).reshape(-1, 1, 1)
    logits = network.logits(ForwardPass(dense, [0.0, 0.0]), torch.zeros(2, 1, 1, N_IN).double())
    for row in torch.sigmoid(logits)[..., 0].tolist():
        assert row == pytest.approx(rates)


def test_the_calibrator_counts_steps_that_exceed_the_step_before():
    members = [spec("aitm", calibrator_weight=weight) for weight in (0.0, 0.5)]
    network = build_network(members, SHAPE)
    logits = torch.tensor(generator(0, "test").standard_normal((2, N_TASKS, 5)), requires_grad=True)
    expected = 0.0
    for task, parent in ((1, 0), (2, 1)):
        steps = zip(logits[1, task].tolist(), logits[1, parent].tolist(), strict=True)
        expected += sum(max(1 / (1 + exp(-a)) - 1 / (1 + exp(-b)), 0.0) for a, b in steps) / 5
    assert network.extra_loss(logits).tolist() == pytest.approx([0.0, 0.5 * expected])
    assert torch.autograd.gradcheck(network.extra_loss, (logits,))
    assert build_network(members[:1], SHAPE).extra_loss(logits[:1]) is None
    assert build_network([spec("esmm")], SHAPE).extra_loss(logits[:1]) is None


def test_sigmoid_is_finite_and_independent_of_the_alignment_of_a_number():
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
    network = build_network(members, SHAPE)
    dense = {name: t.detach().to(dtype).requires_grad_() for name, t in parameters(identities, network).items()}
    x = torch.stack([ranker_input(i, network, BATCH) for i in identities]).to(dtype).requires_grad_()
    logits = network.logits(ForwardPass(dense, [member.dropout for member in members], dropout_draws), x)
    extra = network.extra_loss(logits)
    loss = (logits * torch.linspace(-1, 1, BATCH)).sum() + (0 if extra is None else extra.sum())
    grads = torch.autograd.grad(loss, [x, *dense.values()])
    owners = [tuple(range(len(members))), *(tensor.member for tensor in network.tensors)]

    def own(p):
        slots = [[s for s, o in enumerate(owner) if o == p] for owner in owners]
        return [logits[p].detach(), *(grad[mine] for grad, mine in zip(grads, slots, strict=True))]

    return [own(p) for p in range(len(members))]


@pytest.mark.parametrize("width", [4, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("specs", [specs for _, specs in FAMILIES], ids=[name for name, _ in FAMILIES])
def test_a_member_is_bitwise_independent_of_the_other_members_and_their_order(specs, dtype, width):
    identities = list(range(10, 10 + len(specs)))
    together = results(specs, identities, dtype, width)
    order = [2, 0, 3, 1, *range(4, len(specs))]
    subsets = [([p], identities) for p in range(len(specs))] + [(order, identities), ([1, 3], identities)]
    for subset, names in subsets:
        found = results([specs[p] for p in subset], [names[p] for p in subset], dtype, width)
        for p, arrays in zip(subset, found, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(arrays, together[p], strict=True)), (subset, p)


# Parameters.


@every_variant
def test_a_specific_parameter_is_reached_by_its_own_loss_only_and_a_shared_parameter_by_several(member):
    network = build_network([replace(member, dropout=0.0)], SHAPE)
    dense = parameters([7], network)
    logits = network.logits(ForwardPass(dense, [0.0], keep=True), ranker_input(7, network, 60)[None])
    reached = []
    for task in range(N_TASKS):
        grads = torch.autograd.grad(logits[0, task].sum(), list(dense.values()), retain_graph=True, allow_unused=True)
        reached.append([None if g is None else g.flatten(1).any(1) for g in grads])
    for i, tensor in enumerate(network.tensors):
        for slot, tag in enumerate(tensor.task):
            tasks = [t for t in range(N_TASKS) if reached[t][i] is not None and bool(reached[t][i][slot])]
            assert tasks == [tag] if tag != SHARED else len(tasks) > 1, (tensor.name, slot, tag, tasks)


@every_variant
def test_streams_of_draws_depend_on_the_role_only(member):
    alone, beside = build_network([member], SHAPE), build_network([member] * 3, SHAPE)
    keys = [key for tensor in alone.tensors if not tensor.name.endswith("bias") for key in tensor.key]
    assert len(set(keys)) == len(keys)
    for a, b in zip(alone.tensors, beside.tensors, strict=True):
        assert (b.name, b.key, b.task) == (a.name, a.key * 3, a.task * 3)
        assert b.member == tuple(p for p in range(3) for _ in a.key)


def test_initial_scales_are_he_for_layers_and_unit_variance_for_gates_and_heads():
    by_name = {t.name: t for name in ("ple", "cross_stitch") for t in build_network([spec(name, 2)], SHAPE).tensors}
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


def test_every_built_in_mechanism_has_a_reference():
    assert set(REGISTRY) == set(REFERENCES)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (replace(PLAIN, mechanism="mixer"), "unknown mechanism 'mixer'"),
        (spec("shared_bottom", 3), r"sharing_depth must be in 0\.\.2, got 3"),
        (spec("single_task", 1), "sharing_depth must be 0, got 1"),
        (spec("cgc", 0), r"expert_depth must be in 1\.\.2, got 0"),
        (spec("mmoe", experts=0), r"experts must be in 1\.\.64, got 0"),
        (spec("ple", task_experts=0), r"task_experts must be in 1\.\.64, got 0"),
        (spec("cgc", settings=()), "cgc: needs the setting shared_experts\ncgc: needs the setting task_experts"),
        (spec("stem", task_embeddings=False), "stem: task_embeddings must be true"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_spec_that_has_no_program_is_refused(member, message):
    with pytest.raises(ConfigError, match=message):
        build_network([member], SHAPE)


@pytest.mark.parametrize("name", sorted(FUNNEL_MECHANISMS))
def test_a_funnel_mechanism_is_refused_without_a_funnel(name):
    with pytest.raises(ConfigError, match=f"{name}: needs a funnel, but no task has a parent"):
        build_network([spec(name)], replace(SHAPE, parents=(-1, -1, -1)))


@pytest.mark.parametrize("parents", [(-1, 2, 1), (0, -1, -1), (-1, 0, 7)])
def test_a_funnel_in_a_circle_is_refused(parents):
    with pytest.raises(ConfigError, match="without a cycle"):
        funnel_waves(parents)


def test_members_of_different_keys_form_no_kernel_group():
    with pytest.raises(ConfigError, match="must have the same group_key"):
        build_network([spec("cgc", 1), spec("cgc", 2)], SHAPE)
