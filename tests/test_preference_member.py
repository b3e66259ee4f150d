"""The preference-conditioned member of the experiments: against a plain model, in other stacks, and made ordinary."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from plain_model import PlainModel
from plain_training import LazyAdamW, batches_of, dense_optimizer, retrieval_loss, task_losses
from preference_member import DOWN, UP, Conditioning, PreferencePlan, at_preference, conditioned
from tiny import BASE_LOGITS, SEED, UNIFORM, dataset, device_data, plan_of, spec
from torch import nn

from evorec.errors import ConfigError
from evorec.models.choice import MECHANISMS
from evorec.models.forward import ForwardPass
from evorec.models.mechanism import forward_macs
from evorec.models.optimizer import OPTIMIZERS
from evorec.models.population import stack_members
from evorec.training.cost import CatalogueWork, member_cost
from evorec.training.evaluate import task_logits
from evorec.training.trainer import train

FLOAT64 = 1e-10  # rounding errors of a few steps in float64; the rest is room for other processors
STEPS, BATCH, POSITIVES = 5, 12, 7
SETTINGS = Conditioning(penalty=0.7, rank=2, concentration=0.8, steps=STEPS)
MEMBERS = [
    spec(sharing_depth=1, embedding_dim=8, retrieval_weight=0.3),
    spec(sharing_depth=0, task_embeddings=True, dropout=0.2, negative_source="uniform"),
    spec(mechanism="mmoe", sharing_depth=1, embedding_dim=8),
    spec(mechanism="single_task", history_weight=0.0),
]
EVALUATED = (0.1, 0.2, 0.3, 0.4)


def preference_plan(data, on_device):
    base = plan_of(data, on_device, steps=STEPS, batch=BATCH, positives=POSITIVES)
    return PreferencePlan(base, on_device, steps=STEPS, concentration=SETTINGS.concentration, seed=SEED)


def trained_with_preferences(specs, data, on_device, **options):
    """Conditioned members of the specs, all in one stack; a spec that is not ordinary trains as it is."""
    plan = preference_plan(data, on_device)
    with ExitStack() as stack:
        made = [stack.enter_context(conditioned(one, SETTINGS)) for one in specs]
        return train(made, plan, plan.data, seed=SEED, base_logits=BASE_LOGITS, **options)


class PlainConditioned(PlainModel):
    """Reads the preference `r` as a feature of the users and in the heads."""

    def __init__(self, one, data, layers, arrays):
        super().__init__(one, data, layers)
        n = data.n_tasks + 1
        self.tables_of_preference = nn.ModuleList(nn.Embedding(n, one.embedding_dim) for _ in self.tables())
        self.down, self.up = (nn.Parameter(torch.zeros(arrays[name][0].shape)) for name in (DOWN, UP))
        self.double()
        self.r = torch.full((n,), 1 / n, dtype=self.dtype)
        self.mechanism.finish = self.finish

    def pairs(self, arrays):
        n, dim = len(self.r), self.spec.embedding_dim
        ordinary = arrays | {name: arrays[name][:-n] for name in ("table", "task_table") if name in arrays}
        out = super().pairs({name: array for name, array in ordinary.items() if name not in (DOWN, UP)})
        rows = [arrays["table"][-n:]]
        if "task_table" in arrays:
            rows += [arrays["task_table"][-n:, t * dim : (t + 1) * dim] for t in range(n - 1)]
        out += [(table.weight, own) for table, own in zip(self.tables_of_preference, rows, strict=True)]
        return [*out, (self.down, arrays[DOWN][0]), (self.up, arrays[UP][0])]

    def users(self, ids):
        return super().users(ids) + torch.cat([self.r @ table.weight for table in self.tables_of_preference])

    def finish(self, tops):
        rank = SETTINGS.rank
        logits = []
        for task, (head, top) in enumerate(zip(self.mechanism.heads, tops, strict=True)):
            weight = head.weight[0]
            for entry in range(len(self.r)):
                own = slice(entry * rank, (entry + 1) * rank)
                weight = weight + self.r[entry] * self.up[task, own] @ self.down[own]
            logits.append(top @ weight + head.bias)
        return logits


def plain_trained(model, batches):
    """AdamW on the weighted losses minus the cosine, differentiated by torch; draws as the paper says, by numpy."""
    one, n = model.spec, model.data.n_tasks + 1
    dense, tables = dense_optimizer(model), [table.weight for table in model.tables()]
    lazy = [LazyAdamW(table.data, one) for table in tables]
    of_preference = [LazyAdamW(table.weight.data, one) for table in model.tables_of_preference]
    never = torch.ones(model.data.n_rows, dtype=torch.bool)
    for index, batch in enumerate(batches):
        model.r = torch.tensor(PLAN.preference(index))
        model.zero_grad()
        tasks, extra = task_losses(model, batch)
        losses = [w * loss for w, loss in zip(one.task_weights, tasks, strict=True)]
        losses = torch.stack([*losses, one.retrieval_weight * retrieval_loss(model, batch)])
        cosine = model.r @ losses / (model.r.norm() * losses.norm())
        (n * (model.r @ losses) - SETTINGS.penalty * cosine + extra).backward()
        dense.step()
        never[batch.embedding_rows] = False
        for optimiser, table in zip(lazy, tables, strict=True):
            optimiser.step(batch.embedding_rows, table.grad[batch.embedding_rows], batch.step)
        for optimiser, table in zip(of_preference, model.tables_of_preference, strict=True):
            optimiser.step(np.arange(n), table.weight.grad, batch.step)
    with torch.no_grad():
        for table in tables:
            table[never] = 0.0


DATA = dataset()
DOUBLE = device_data(DATA, dtype=torch.float64)
PLAN = preference_plan(DATA, DOUBLE)


@pytest.mark.parametrize("member", [0, 1])
def test_a_conditioned_member_equals_a_plain_model_and_its_ordinary_member_at_a_preference(member: int) -> None:
    one = MEMBERS[member]
    prefix, fresh = "parameter/", trained_with_preferences([one], DATA, DOUBLE, last=0).checkpoints[0]
    start = {name.removeprefix(prefix): array for name, array in fresh.items() if name.startswith(prefix)}
    model = PlainConditioned(one, DATA, DOUBLE.shape.n_layers, start).load(start)
    batches = batches_of(DATA, steps=STEPS, batch=BATCH, positives=POSITIVES, uniform=UNIFORM, seed=SEED)
    plain_trained(model, batches)
    arrays = trained_with_preferences(MEMBERS, DATA, DOUBLE).population.member_arrays(member)
    assert np.abs(arrays[UP]).max() > 0
    for number, (parameter, array) in enumerate(model.pairs(arrays)):
        np.testing.assert_allclose(
            array, parameter.detach().numpy(), rtol=0, atol=FLOAT64, err_msg=f"parameter {number}"
        )

    model.r = torch.tensor(EVALUATED, dtype=torch.float64)
    made, own = at_preference(one, arrays, np.multiply(EVALUATED, 3), DATA, popularity_weight=0.25)
    assert (made.mechanism, made.popularity_weight) == (one.mechanism, 0.25)
    np.testing.assert_allclose(made.task_weights, (0.5, 1.0, 1.5))  # 0.1, 0.2 and 0.3 with sum 3
    population = stack_members([made], DOUBLE.shape, [own], device=torch.device("cpu"))
    part = DATA.held_out
    with torch.no_grad():
        vectors = model.users(part.users), model.items(part.items), model.contexts(part.context)
        expected = model.logits(*vectors, part.statistics).numpy().T
        block = population.kernel_groups[0]
        users = block.vectors(DOUBLE.users)[0].transpose(0, 1).flatten(1)
        np.testing.assert_allclose(users, model.users(np.arange(DATA.n_users + 1)), rtol=0, atol=FLOAT64)
    np.testing.assert_allclose(task_logits(population, DOUBLE, part)[0], expected, rtol=0, atol=FLOAT64)


def test_a_conditioned_member_and_its_ordinary_neighbour_are_independent_of_the_stack() -> None:
    on_device = device_data(DATA)
    plan = preference_plan(DATA, on_device)
    ordinary = spec(embedding_dim=8, balancing="uncertainty", retrieval_weight=0.3)
    with ExitStack() as stack:
        made = [stack.enter_context(conditioned(one, SETTINGS)) for one in MEMBERS]
        for member, one in enumerate([*made, ordinary]):
            options = {"seed": SEED, "base_logits": BASE_LOGITS}
            alone = train([one], plan, plan.data, **options).population.member_arrays(0)
            beside = train([ordinary, *made, ordinary], plan, plan.data, **options).population.member_arrays(member + 1)
            for name, array in alone.items():
                assert np.array_equal(array, beside[name]), (member, name)


def test_preferences_depend_on_seed_and_step_alone_and_reach_only_the_last_rows() -> None:
    other = PreferencePlan(PLAN._plan, DOUBLE, steps=2, concentration=SETTINGS.concentration, seed=SEED)
    assert np.array_equal(other.preference(1), PLAN.preference(1))
    assert not np.array_equal(PLAN.preference(0), PLAN.preference(1))
    base, step = PLAN._plan.step(1), PLAN.step(1)
    rows = torch.arange(1.0, len(step.rows) + 1, dtype=torch.float64)[:, None]
    added = float(PLAN.preference(1) @ rows[-4:, 0].numpy())
    torch.testing.assert_close(step.users.of(rows), base.users.of(rows[:-4]) + added)
    grads = torch.ones(sum(len(bag.offset) - 1 for bag in (step.users, step.items, step.contexts)), 1).double()
    back = step.back.of(grads)
    torch.testing.assert_close(back[:-4], base.back.of(grads))
    np.testing.assert_allclose(back[-4:, 0], (len(step.users.offset) - 1) * PLAN.preference(1))


def test_the_preference_costs_its_rows_and_its_heads() -> None:
    one, catalogue = MEMBERS[0], CatalogueWork(10, 2, 10, 5, 10)
    n, dim, width, rank = 4, one.embedding_dim, one.width, SETTINGS.rank

    def flops(member, shape, work):
        cost = member_cost(member, shape, work, catalogue, steps=STEPS, bytes_per_parameter=4)
        return cost["training_flops"]

    users = np.mean([len(PLAN.step(i).users.offset) - 1 for i in range(STEPS)])
    with conditioned(one, SETTINGS) as made:
        assert forward_macs(made, PLAN.data.shape) == forward_macs(one, DOUBLE.shape)
        more = flops(made, PLAN.data.shape, PLAN.work) - flops(one, DOUBLE.shape, PLAN._plan.work)
    updates = n * dim + n * rank * width + 3 * n * rank
    per_update = OPTIMIZERS["adamw"].flops_per_update
    assert more == pytest.approx(STEPS * (6 * n * users * dim + per_update * updates), rel=1e-3)


def test_a_conditioned_member_is_refused_without_a_preference_and_for_other_mechanisms() -> None:
    network = None
    with conditioned(MEMBERS[0], SETTINGS) as made:
        network = MECHANISMS[made.mechanism].network([made], DOUBLE.shape)
    assert made.mechanism not in MECHANISMS
    with pytest.raises(ValueError, match="no logits without a preference"):
        network.logits(ForwardPass({}, (0.0,)), torch.zeros(1))
    with pytest.raises(ConfigError, match="got esmm"), conditioned(spec(mechanism="esmm"), SETTINGS):
        pass
