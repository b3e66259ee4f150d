"""The folded ranker against the block's own, pair by pair, for every mechanism."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import MECHANISMS, SEED, dataset, device_data, of_mechanism, spec

from evorec.models.population import fresh_population
from evorec.models.rerank import RankerInputs, ranker_scores

FLOAT64, FLOAT32 = 1e-12, 1e-5  # relative, and of size 1: two layers in another order of addition
CPU = torch.device("cpu")


def with_own_embeddings(name):
    fixed = of_mechanism(name)["task_embeddings"]
    return [(name, on) for on in ((True,) if fixed else (False, True))]


CASES = [case for name in MECHANISMS for case in with_own_embeddings(name)]


def world(specs, *, dtype=torch.float64, signs=(), **options):
    data = replace(dataset(**options), signs=signs)
    on_device = device_data(data, dtype=dtype)
    population = fresh_population(specs, on_device.shape, seed=SEED, device=CPU, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    for tensor in (*population.tables, population.flat):
        tensor += 0.3 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(dtype)
    return data, on_device, population


def both(data, on_device, population, member, users, ids):
    """Scores of the folded ranker, and of `KernelGroup.rank_logits` one user at a time, ``[U, C]``."""
    block, place = population.locate(member)
    spec_, statistics = block.specs[place], on_device.user_statistics[users]
    user_vectors, item_vectors = block.vectors(on_device.users)[:, :, users], block.vectors(on_device.items)
    context = block.vectors(on_device.context_bag(torch.tensor(data.context_mode[None])))
    inputs = RankerInputs(
        user_vectors[place], item_vectors[place], context[place, :, 0], statistics, on_device.item_statistics
    )
    slow = []
    for user, own in enumerate(ids):
        rows = torch.cat([statistics[user].expand(len(own), -1), on_device.item_statistics[own]], 1)
        logits = block.rank_logits(
            user_vectors[:, :, [user]].expand(-1, -1, len(own), -1),
            item_vectors[:, :, own],
            context.expand(-1, -1, len(own), -1),
            rows,
        )
        weights = torch.tensor(spec_.task_weights, dtype=logits.dtype) * torch.tensor(data.signs or (1, 1, 1))
        slow.append(spec_.rank_blend * weights @ logits[place])
    return ranker_scores(block, place, inputs, ids), torch.stack(slow)


@pytest.mark.parametrize(("name", "own"), CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_scores_are_those_of_the_block(name, own, dtype):
    one = spec(mechanism=name, task_embeddings=own, dropout=0.3, rank_blend=0.7)
    other = replace(one, dropout=0.0, task_weights=(2.0, 0.5, 0.5))
    heads = replace(one, ensemble_heads=3)
    data, on_device, population = world([one, other, heads], dtype=dtype)
    ids = torch.tensor(np.random.default_rng(0).integers(0, data.n_items, (13, 9)))
    for member in range(3):
        found, expected = both(data, on_device, population, member, list(range(13)), ids)
        assert expected.std() > 0.05
        close = FLOAT64 if dtype == torch.float64 else FLOAT32
        torch.testing.assert_close(found, expected, rtol=close, atol=close)


@pytest.mark.parametrize("signs", [(1, -1, 1), (-1, 1, -1)])
def test_a_task_whose_high_values_are_bad_counts_with_minus(signs):
    ids = torch.arange(40).view(4, 10)
    found, expected = both(*world([spec(rank_blend=0.7)], signs=signs), 0, [0, 3, 5, 7], ids)
    torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT64)
    without, _ = both(*world([spec(rank_blend=0.7)]), 0, [0, 3, 5, 7], ids)
    assert (found - without).abs().max() > 0.05


def test_the_weights_of_a_score_worked_by_hand():
    shape = device_data(dataset()).shape
    assert shape.score_weights((1.0, 1.25, 0.75)) == (1.0, 1.25, 0.75)
    assert replace(shape, signs=(1, -1, 1)).score_weights((1.0, 1.25, 0.75)) == (1.0, -1.25, 0.75)


@pytest.mark.parametrize("options", [{"content": False}, {"context": False}, {"statistics": ()}], ids=str)
def test_data_without_content_context_or_statistics(options):
    data, on_device, population = world([spec(mechanism="mmoe", sharing_depth=2)], **options)
    ids = torch.arange(40).view(4, 10) % data.n_items
    torch.testing.assert_close(*both(data, on_device, population, 0, [0, 3, 5, 7], ids), rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("name", MECHANISMS)
def test_scores_do_not_depend_on_company_and_on_other_users_by_rounding_alone(name, monkeypatch):
    monkeypatch.setattr("evorec.models.rerank.PAIRS_AT_ONCE", 30)
    one = spec(mechanism=name)
    ids = torch.tensor(np.random.default_rng(1).integers(0, 50, (11, 10)))
    arrays = world([one], dtype=torch.float32)[2].member_arrays(0)
    everyone = None
    for users in (list(range(11)), [4, 5, 6], [6, 5]):
        alone = None
        for company in ([one], [one, replace(one, dropout=0.2), spec(mechanism="shared_bottom", width=8)]):
            data, on_device, population = world(company, dtype=torch.float32)
            population.load(0, arrays)
            scores, _ = both(data, on_device, population, 0, users, ids[users])
            alone = scores if alone is None else alone
            assert torch.equal(scores, alone)
        everyone = alone if everyone is None else everyone
        torch.testing.assert_close(alone, everyone[users], rtol=FLOAT32, atol=FLOAT32)
