"""The shared batch stream against the rows of the data set."""

from dataclasses import replace
from threading import Barrier, Thread

import numpy as np
import torch
from plain_model import epochs
from tiny import SEED, dataset, device_data, plan_of, with_missing_labels

from evorec.config import TrainConfig
from evorec.training.plan import BatchPlan, history_weights

ROUNDING = 1e-6  # float32 weights
BATCH, POSITIVES, STEPS = 37, 29, 70  # more than one epoch of rows and of positives


def built(data=None, **sizes):
    data = data or dataset()
    return data, plan_of(data, device_data(data), **{"steps": STEPS, "batch": BATCH, "positives": POSITIVES, **sizes})


def batches(data):
    part = data.train
    return (
        epochs(np.arange(part.n_rows), BATCH, STEPS, SEED, "batches"),
        epochs(np.flatnonzero(part.target > 0), POSITIVES, STEPS, SEED, "positives"),
    )


def global_rows(step, local):
    return step.rows.numpy()[local.numpy()]


def test_an_epoch_shows_each_row_at_most_once_and_all_but_a_remainder():
    data, plan = built()
    per_epoch = data.train.n_rows // BATCH
    assert per_epoch < STEPS
    shown = [user_item_times(data, plan.step(i), BATCH) for i in range(per_epoch)]
    pairs, counts = np.unique(np.concatenate(shown), axis=0, return_counts=True)
    there, limits = np.unique(np.column_stack([data.train.users, data.train.items]), axis=0, return_counts=True)
    at_most = {tuple(pair): count for pair, count in zip(there.tolist(), limits.tolist(), strict=True)}
    assert counts.sum() == per_epoch * BATCH
    assert all(count <= at_most[tuple(pair)] for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True))


def user_item_times(data, step, n):
    """(user, item) of the first n rows, found back from the ids' embedding rows."""
    users = {row: user for user, row in enumerate(data.user_rows[:, 0].tolist())}
    items = {row: item for item, row in reversed(list(enumerate(data.item_rows[:, 0].tolist())))}
    u = global_rows(step, step.users.rows)[step.user_of.numpy()[:n], 0]
    i = global_rows(step, step.items.rows)[step.item_of.numpy()[:n], 0]
    return np.array([[users[a], items[b]] for a, b in zip(u.tolist(), i.tolist(), strict=True)])


def test_the_second_epoch_has_another_order():
    data, plan = built()
    per_epoch = data.train.n_rows // BATCH
    first, second = (plan.step(i).statistics for i in (0, per_epoch))
    assert not torch.equal(first, second)


def test_every_step_points_at_the_rows_of_its_impressions():
    data, plan = built()
    part = data.train
    for index, (batch, positives) in enumerate(zip(*batches(data), strict=True)):
        step = plan.step(index)
        both = np.concatenate([batch, positives])
        user_rows = global_rows(step, step.users.rows)[step.user_of]
        item_rows = global_rows(step, step.items.rows)[step.item_of]
        np.testing.assert_array_equal(user_rows, data.user_rows[part.users[both]])
        np.testing.assert_array_equal(item_rows, data.item_rows[part.items[both]])
        np.testing.assert_array_equal(step.users.weights[step.user_of], data.user_weights[part.users[both]])
        np.testing.assert_array_equal(step.items.weights[step.item_of], data.item_weights[part.items[both]])
        np.testing.assert_array_equal(step.items.content[step.item_of], data.item_content[part.items[both]])
        np.testing.assert_array_equal(global_rows(step, step.contexts.rows)[step.context_of], part.context[batch])
        np.testing.assert_array_equal(step.statistics, part.statistics[batch])


def test_the_rows_of_a_step_are_exactly_those_it_reads_once_each():
    _, plan = built()
    for index in range(STEPS):
        step = plan.step(index)
        bags = (step.users, step.items, step.contexts, step.history)
        read = np.unique(np.concatenate([global_rows(step, bag.rows).ravel() for bag in bags]))
        np.testing.assert_array_equal(step.rows, read)


def test_a_history_lacks_the_positive_that_is_asked_for():
    data, plan = built()
    part = data.train
    for index, positives in enumerate(batches(data)[1]):
        step = plan.step(index)
        histories = global_rows(step, step.history.rows)
        for history, weights, row in zip(histories, step.history.weights.numpy(), positives, strict=True):
            own = data.item_history_row[part.items[row]]
            expected = set(data.history_rows[part.users[row]].tolist()) - {0, own}
            kept = history[weights > 0]
            assert sorted(kept.tolist()) == sorted(expected)
            assert own not in kept
            np.testing.assert_allclose(weights[weights > 0], (len(expected) + 1) ** -0.5)


def test_history_rows_are_counted_apart():
    data, plan = built(steps=5)
    first = data.item_history_row[:-1].min()
    for index in range(5):
        step = plan.step(index)
        assert step.n_history_rows == int((step.rows >= first).sum())


def test_missing_labels_are_marked_and_never_nan():
    data = with_missing_labels(dataset(), share=0.5)
    _, plan = built(data)
    for index, batch in enumerate(batches(data)[0]):
        step, labels = plan.step(index), data.train.labels[batch].T
        np.testing.assert_array_equal(step.labelled, ~np.isnan(labels))
        np.testing.assert_array_equal(step.labels, np.where(np.isnan(labels), 0, labels))
        np.testing.assert_array_equal(step.n_labelled, np.maximum((~np.isnan(labels)).sum(1), 1))


def test_a_task_without_a_label_in_the_batch_divides_by_one():
    data = dataset()
    labels = data.train.labels.copy()
    labels[:, 2] = np.nan
    _, plan = built(replace(data, train=replace(data.train, labels=labels)), steps=1)
    assert plan.step(0).n_labelled.tolist() == [BATCH, BATCH, 1]


def test_what_a_user_is_known_to_want_is_no_negative():
    data, plan = built(steps=3)
    part, liked = data.train, data.train.target > 0
    wanted = set(zip(part.users[liked].tolist(), part.items[liked].tolist(), strict=True))
    found = 0
    for index, positives in enumerate(batches(data)[1][:3]):
        users, items = part.users[positives], part.items[positives]
        expected = [[a != b and (users[a], items[b]) in wanted for b in range(POSITIVES)] for a in range(POSITIVES)]
        assert plan.step(index).no_negative.tolist() == expected
        found += np.sum(expected)
    assert found > 0


def test_a_next_item_is_learned_from_the_positives_before_it():
    data, plan = built(next_item=True)
    part, length = data.train, data.history_rows.shape[1]
    several = 0
    for index, positives in enumerate(batches(data)[1][:20]):
        step = plan.step(index)
        histories = global_rows(step, step.history.rows)
        for history, weights, row in zip(histories, step.history.weights.numpy(), positives, strict=True):
            same_user = np.flatnonzero((part.target > 0) & (part.users == part.users[row]))
            order = sorted(same_user.tolist(), key=lambda r: (part.time[r], r))
            before = order[: order.index(row)][::-1][:length]
            own = data.item_history_row[part.items[row]]
            rows = [data.item_history_row[part.items[r]] for r in before]
            expected = [0 if r == own else r for r in rows] + [0] * (length - len(rows))
            assert history.tolist() == expected
            np.testing.assert_array_equal(weights > 0, np.array(expected) > 0)
            several += len(before) > 1
    assert several > 0


def test_a_recent_item_weighs_more():
    found = history_weights(np.array([[5, 0, 6, 7]]), recency=1.0)
    total = (1 + 1 / 3 + 1 / 4 + 1) ** 0.5  # the padding's 1/2 does not count
    np.testing.assert_allclose(found, [[1 / total, 0.0, (1 / 3) / total, (1 / 4) / total]], rtol=ROUNDING)


def assert_same(one, other):
    for name, value in vars(one).items():
        found = getattr(other, name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, found), name
        elif hasattr(value, "rows"):
            assert_same(value, found)
        else:
            assert value == found, name


def test_held_out_rows_do_not_enter():
    data = dataset()
    held_out = data.held_out
    poisoned = replace(
        data,
        held_out=replace(
            held_out,
            users=np.zeros_like(held_out.users),
            items=np.zeros_like(held_out.items),
            labels=1 - held_out.labels,
            statistics=np.full_like(held_out.statistics, np.nan),
            target=1 - held_out.target,
        ),
        relevant=data.seen,
    )
    one, other = (built(some, steps=4)[1] for some in (data, poisoned))
    for index in range(4):
        assert_same(one.step(index), other.step(index))


def test_two_threads_build_the_same_steps():
    _, shared = built()
    _, alone = built()
    barrier, found = Barrier(2), {}

    def run(name, order):
        barrier.wait()
        found[name] = [shared.step(i) for i in order], shared.work()

    threads = [Thread(target=run, args=(0, range(STEPS))), Thread(target=run, args=(1, range(STEPS - 1, -1, -1)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(STEPS):
        assert_same(found[0][0][index], alone.step(index))
        assert_same(found[1][0][STEPS - 1 - index], alone.step(index))
    assert found[0][1] == found[1][1] == alone.work()


def test_a_batch_is_never_larger_than_the_data():
    data, plan = built(steps=2, batch=10_000, positives=8000)
    assert plan.step(1).batch_size == plan.work().batch == data.train.n_rows
    assert plan.step(1).no_negative.shape[0] == plan.work().positives == int((data.train.target > 0).sum())


def test_the_work_of_a_step_is_the_average_of_its_sizes():
    _, plan = built(steps=3)
    steps, work = [plan.step(i) for i in range(3)], plan.work()
    assert (work.batch, work.positives) == (BATCH, POSITIVES)
    assert work.rows == np.mean([len(s.rows) - s.n_history_rows for s in steps])
    assert work.history_rows == np.mean([s.n_history_rows for s in steps])
    assert work.items == np.mean([len(s.items.rows) for s in steps])
    entries = [sum(int((b.weights > 0).sum()) for b in (s.users, s.items, s.contexts)) for s in steps]
    assert work.bag_entries == np.mean(entries)
    assert work.history_entries == np.mean([int((s.history.weights > 0).sum()) for s in steps])


def test_the_plan_depends_on_the_seed():
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=1)
    config = TrainConfig(steps=1, batch_size=37, retrieval_batch=29)
    other = BatchPlan(data, config, seed=SEED + 1, data=on_device)
    assert not torch.equal(plan.step(0).user_of, other.step(0).user_of)


def test_a_history_without_items_has_no_weight():
    assert history_weights(np.array([[0, 0]])).tolist() == [[0.0, 0.0]]
