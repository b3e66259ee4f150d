"""Members that encode the past in order: their batches, their training against plain models, and their company."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_encoders import PLAIN_ENCODERS, encoder_arrays, encoder_pairs
from plain_model import PlainModel, epochs
from plain_training import Batch, plain_train
from tiny import EVALUATION, SEED, UNIFORM, dataset, device_data, plan_of, spec, trained

from evorec.data.held_out import ranking_users
from evorec.errors import ConfigError
from evorec.models.population import fresh_population
from evorec.seeds import generator
from evorec.training import step as training_step
from evorec.training.evaluate import member_lists
from evorec.training.windows import Windows

FLOAT64 = 1e-10  # as in test_trainer
STEPS, BATCH, POSITIVES = 8, 12, 17
ATTENTION = {"encoder": "attention", "attention_layers": 2, "attention_heads": 2, "encoder_dropout": 0.0}
GRU = {"encoder": "gru", "encoder_dropout": 0.0}
MEMBERS = [
    spec(**ATTENTION, negative_source="uniform", history_weight=3.0),
    spec(**GRU, embedding_dim=8, optimizer="adafactor", retrieval_loss="gbce", user_vector=False, dropout=0.2),
    spec(**{**ATTENTION, "attention_layers": 1}, balancing="pcgrad", retrieval_loss="bpr", negatives=5),
    spec(bag_decay=0.7),
    spec(bag_decay=0.4, embedding_dim=8, negative_source="uniform", negatives=4),
]
NAMES = ["attention", "gru", "attention of a block", "decayed bag", "decayed bag, uniform"]
on_cpu = torch.device("cpu")


def ordered_positives(data):
    """Of each user the items of the training positives in the order of time, each at its last time."""
    part, out = data.train, {}
    for row in np.lexsort((np.arange(part.n_rows), part.time)):
        if part.target[row] > 0:
            own = out.setdefault(int(part.users[row]), {})
            own.pop(int(part.items[row]), None)
            own[int(part.items[row])] = None
    return {user: list(items) for user, items in out.items()}


def test_every_positive_but_the_first_is_a_target_once_per_epoch_behind_its_past():
    data = replace(dataset(), history_rows=dataset().history_rows[:, :4])  # so that long pasts have several windows
    past = ordered_positives(data)
    n_targets = sum(len(items) - 1 for items in past.values())
    size = 7
    windows, found = Windows(data, size=size, seed=5), []
    for step in range(n_targets // size):
        batch = windows[step]
        assert len(batch.targets) == size
        assert batch.lengths.max() <= 4
        stops = np.cumsum(batch.lengths)
        cell, owner = batch.grid
        assert len(np.unique(cell)) == len(batch.items)
        assert owner.ravel()[cell].tolist() == np.repeat(np.arange(len(stops)), batch.lengths).tolist()
        for number, row in enumerate(np.split(cell, stops[:-1])):  # side by side in a row
            assert row.tolist() == list(range(row[0], row[0] + batch.lengths[number]))
            assert row[0] // owner.shape[1] == row[-1] // owner.shape[1]
        for position, user, target in zip(batch.target_of, batch.users, batch.targets, strict=True):
            index = past[int(user)].index(int(target))
            found.append((int(user), index))
            window = np.searchsorted(stops, position, side="right")
            own = batch.items[stops[window] - batch.lengths[window] : position + 1]
            assert own.tolist() == past[int(user)][index - len(own) : index]
            # The order counts back from the end of a window, where the position of an evaluated past is 0.
            assert (len(past[int(user)]) - 1 - index) % 4 == batch.order[position]
    assert len(set(found)) == len(found) == n_targets // size * size
    assert all(index > 0 for _, index in found)


def test_sequences_without_a_second_positive_are_refused():
    data = dataset()
    target = np.zeros_like(data.train.target)
    target[0] = 1
    with pytest.raises(ConfigError, match="at least 2 positives of click"):
        Windows(replace(data, train=replace(data.train, target=target)), size=7, seed=0)


class SequenceModel(PlainModel):
    """A plain model with an encoder of the past."""

    def __init__(self, own, data, layers, arrays):
        super().__init__(own, data, layers)
        self.encoder = PLAIN_ENCODERS[own.encoder](
            own.embedding_dim, encoder_arrays(arrays, own.encoder), dict(own.settings)
        )
        self.load(arrays)

    def histories(self, lists):
        dim, windows = self.spec.embedding_dim, zip(lists.windows, lists.last, strict=True)
        states = [self.encoder(self.items(items)[:, :dim], last) for items, last in windows]
        return torch.cat(states)[lists.target_of]

    def retrieval(self, users, histories, items):
        return super().retrieval(users * self.spec.user_vector, histories, items)


class DecayedModel(PlainModel):
    """A plain model whose bag fades."""

    def histories(self, lists):
        decay, out = self.spec.bag_decay, []
        for rows in lists:
            weights = np.array([decay**j for j in range(len(rows))]) * (rows > 0)
            out.append(self.bag(rows[None], (weights / np.sqrt(weights.sum() + 1))[None]))
        return torch.cat(out)


class SequenceBatch(Batch):
    """A batch whose positives are the targets of windows."""

    def __init__(self, data, step, rows, windows, *, seed):
        super().__init__(data, step, rows, np.arange(3), uniform=UNIFORM, seed=seed)
        self.users, self.items = windows.users, windows.targets
        self.uniform = generator(seed, "uniform negatives", step).permutation(data.n_items)[:UNIFORM]
        stops = np.cumsum(windows.lengths)
        self.windows, self.last = np.split(windows.items, stops[:-1]), windows.order[stops - 1]
        self.target_of, self.histories = windows.target_of, self

    @property
    def embedding_rows(self):
        data, part = self.data, self.data.train
        users = np.concatenate([part.users[self.rows], self.users])
        items = np.concatenate([part.items[self.rows], self.items, self.uniform, *self.windows])
        read = [data.user_rows[users], data.item_rows[items], part.context[self.rows]]
        return np.setdiff1d(np.concatenate([rows.reshape(-1) for rows in read]), [0])


def bag_batches(data, rows, plan):
    """Batches with the whole history, in which the item itself leaves a gap."""
    liked = epochs(np.flatnonzero(data.train.target > 0), POSITIVES, STEPS, SEED, "positives")
    out = []
    for step, own in enumerate(liked):
        batch = Batch(data, step + 1, rows[step], own, uniform=UNIFORM, seed=SEED)
        pasts = zip(data.history_rows[batch.users], data.item_history_row[batch.items], strict=True)
        batch.histories = [np.where(past == item, 0, past) for past, item in pasts]
        out.append(batch)
    return out


def test_members_with_encoders_of_the_past_equal_plain_models():
    data = dataset()
    on_device = device_data(data, dtype=torch.float64)
    plan = plan_of(data, on_device, steps=STEPS, batch=BATCH, positives=POSITIVES)
    found = trained(MEMBERS, plan, on_device, base_logits=(0.0, 0.0, 0.0)).population
    start = fresh_population(MEMBERS, on_device.shape, seed=SEED, device=on_cpu, dtype=torch.float64)
    rows, windows = epochs(np.arange(data.train.n_rows), BATCH, STEPS, SEED, "batches"), None
    for member, own in enumerate(MEMBERS):
        arrays = start.member_arrays(member)
        if own.reads_order:
            windows = Windows(data, size=POSITIVES, seed=SEED)
            plain = SequenceModel(own, data, 2, arrays)
            batches = [SequenceBatch(data, i + 1, rows[i], windows[i], seed=SEED) for i in range(STEPS)]
        else:
            plain, batches = DecayedModel(own, data, 2).load(arrays), bag_batches(data, rows, plan)
        plain = plain_train(plain, batches)
        arrays = found.member_arrays(member)
        if own.reads_order:
            expected, states = encoder_pairs(plain.encoder), encoder_arrays(arrays, own.encoder)
            assert expected.keys() == states.keys()
            for name, array in states.items():
                np.testing.assert_allclose(array, expected[name], atol=FLOAT64, err_msg=name)
        for parameter, array in plain.pairs(arrays):
            np.testing.assert_allclose(parameter.detach(), array, atol=FLOAT64, err_msg=NAMES[member])


def of_float32(members, **options):
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=4)
    return data, on_device, trained(members, plan, on_device, **options)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def with_dropout(own):
    return replace(own, settings=tuple((n, 0.3 if n == "encoder_dropout" else v) for n, v in own.settings))


def test_a_member_with_an_encoder_is_bitwise_independent_of_the_other_members():
    members = [with_dropout(own) for own in MEMBERS]
    data, on_device, together = of_float32([*members, spec(), with_dropout(spec(**GRU, embedding_dim=2))])
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    lists = member_lists(together.population, data, on_device, users, EVALUATION)
    for index, member in enumerate(members):
        _, _, single = of_float32([member])
        assert same(single.population.member_arrays(0), together.population.member_arrays(index)), NAMES[index]
        own = member_lists(single.population, data, on_device, users, EVALUATION)
        assert np.array_equal(own.scores[0], lists.scores[index]), NAMES[index]


def test_members_with_encoders_train_on_from_a_checkpoint():
    members = [with_dropout(own) for own in (MEMBERS[0], spec(), MEMBERS[1], MEMBERS[3])]
    _, _, whole = of_float32(members)
    _, _, half = of_float32(members, last=2)
    _, _, rest = of_float32(members[::-1], checkpoints=half.checkpoints[::-1])
    for index in range(len(members)):
        one, other = whole.population.member_arrays(index), rest.population.member_arrays(len(members) - 1 - index)
        assert same(one, other)


def test_dropout_of_an_encoder_changes_its_training_only_where_it_is_above_0():
    plain = MEMBERS[0]
    _, _, found = of_float32([plain, with_dropout(plain)])
    one, other = (found.population.member_arrays(index) for index in range(2))
    assert not same(one, other)


def test_members_of_equal_architecture_share_products_where_a_launch_is_the_price(monkeypatch):
    data = dataset()
    on_device = device_data(data, dtype=torch.float64)
    plan = plan_of(data, on_device, steps=3)
    slower = replace(with_dropout(MEMBERS[0]), learning_rate=1e-4)
    members = [slower, MEMBERS[2], with_dropout(MEMBERS[0]), MEMBERS[1], MEMBERS[0]]
    apart = trained(members, plan, on_device).population
    monkeypatch.setattr(training_step, "runs_ahead", lambda device: True)
    together = trained(members, plan, on_device).population
    for index in range(len(members)):
        one, other = (population.member_arrays(index) for population in (apart, together))
        for name, array in one.items():
            np.testing.assert_allclose(array, other[name], atol=FLOAT64, err_msg=name)


def test_target_attention_keeps_its_rows_of_the_past_beside_a_sequence_encoder():
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=4, pasts=True)
    both, alone = spec(**GRU, target_attention="softmax"), spec(target_attention="softmax", retrieval_weight=0.0)
    found = trained([both, alone], plan, on_device).population
    rows = data.item_history_row[:-1]
    read, trained_rows = (found.member_arrays(member)["table"][rows] for member in range(2))
    assert np.abs(read).max() > 0  # by the ranker, whatever the encoder reads
    np.testing.assert_array_equal(read != 0, trained_rows != 0)
