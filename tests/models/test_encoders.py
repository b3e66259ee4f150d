"""Encoders of the past against plain torch modules, packed, padded and reversed."""

import numpy as np
import pytest
import torch
from plain_encoders import PLAIN_ENCODERS, encoder_arrays
from tiny import dataset, device_data, spec

from evorec.data.histories import history_weights
from evorec.models.encoder import ENCODERS, EncoderRun, Sequences
from evorec.models.population import decayed, encoded_past, fresh_population, member_parameters

SETTINGS = {
    "gru": {"encoder_dropout": 0.0},
    "attention": {"attention_layers": 2, "attention_heads": 2, "encoder_dropout": 0.0},
}
EXACT = 1e-12  # float64 on both sides
LENGTHS = (3, 1, 5)

each = pytest.mark.parametrize("name", SETTINGS)


def fresh(name, dim=8):
    """A member, its parameters with noise in the entries that start at 0 or 1, and random items of the sequences."""
    on_device, rng = device_data(dataset(), dtype=torch.float64), np.random.default_rng(0)
    member = spec(encoder=name, embedding_dim=dim, **SETTINGS[name])
    population = fresh_population([member], on_device.shape, seed=1, device=torch.device("cpu"), dtype=torch.float64)
    population.flat += 0.1 * torch.tensor(rng.standard_normal(len(population.flat)))
    items = [torch.tensor(rng.standard_normal((n, dim))) for n in LENGTHS]
    arrays = encoder_arrays(population.member_arrays(0), name)
    plain = PLAIN_ENCODERS[name](dim, arrays, SETTINGS[name])
    group = population.kernel_groups[0]
    return member, member_parameters(group.tensor_slots, 0, population.flat), items, [plain(x) for x in items]


@each
def test_packed_sequences_have_the_states_of_plain_modules(name):
    _, parameters, items, expected = fresh(name)
    owner = torch.tensor([[2, 2, 2, 2, 2], [0, 0, 0, 1, -1]])  # two rows, of which the second has two sequences
    cell = torch.tensor([5, 6, 7, 8, 0, 1, 2, 3, 4])
    order = torch.cat([torch.arange(n).flip(0) for n in LENGTHS])
    sequences = Sequences(cell, owner, order)
    found = ENCODERS[name].encode(EncoderRun(parameters, sequences, SETTINGS[name]), torch.cat(items)[None])[0]
    np.testing.assert_allclose(found.detach(), torch.cat(expected).detach(), atol=EXACT)


@each
def test_a_past_is_encoded_from_its_latest_item_on_with_padding_anywhere_at_its_end(name):
    member, parameters, items, expected = fresh(name)
    rows = torch.zeros(4, 7, 8, dtype=torch.float64)
    real = torch.zeros(4, 7, dtype=torch.bool)
    for user, own in enumerate(items):  # latest first; the last user has no past
        rows[user, : len(own)], real[user, : len(own)] = own.flip(0), True
    found = encoded_past(member, parameters, rows, real).detach()
    np.testing.assert_allclose(found[:3], torch.stack([x[-1] for x in expected]).detach(), atol=EXACT)
    assert not found[3].any()


def test_a_decayed_bag_has_the_weights_of_its_definition():
    rows = np.array([[4, 0, 6, 7], [5, 5, 0, 0], [0, 0, 0, 0]])
    for recency in (0.0, 0.7):
        plain = (rows > 0) * np.arange(1.0, 5) ** -recency * 0.6 ** np.arange(4)
        expected = plain / np.sqrt(plain.sum(1, keepdims=True) + 1)
        found = decayed(torch.tensor(history_weights(rows, recency)), 0.6)
        np.testing.assert_allclose(found, expected, atol=EXACT)
