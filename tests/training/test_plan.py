"""The shared batch stream against the rows of the data set."""

import pickle
from dataclasses import replace
from threading import Barrier, Thread

import numpy as np
import pytest
import torch
from plain_model import epochs
from tiny import SEED, UNIFORM, dataset, device_data, plan_of, with_missing_labels

from evorec.config import TrainConfig
from evorec.data.histories import history_weights
from evorec.models.losses import NumberTargets, NumberTasks, TaskTargets
from evorec.models.negative_scores import Cells
from evorec.seeds import generator
from evorec.training.plan import BatchPlan, Sums, n_bytes

FLOAT64 = 1e-13  # sums of a few dozen numbers of size 1
ROUNDING = 1e-6  # float32 weights
BATCH, POSITIVES, STEPS = 37, 29, 70  # more than one epoch of rows and of positives


def built(data=None, dtype=torch.float32, **sizes):
    data = data or dataset()
    on_device = device_data(data, dtype=dtype)
    return data, plan_of(data, on_device, **{"steps": STEPS, "batch": BATCH, "positives": POSITIVES, **sizes})


def batches(data):
    part = data.train
    return (
        epochs(np.arange(part.n_rows), BATCH, STEPS, SEED, "batches"),
        epochs(np.flatnonzero(part.target > 0), POSITIVES, STEPS, SEED, "positives"),
    )


def uniform_items(data, index, n=UNIFORM):
    return generator(SEED, "uniform negatives", index + 1).integers(0, data.n_items, n)


def matrix(step, sums, n_rows):
    """Sums as a dense matrix ``(m, n_rows)`` of weights of the table's rows."""
    offset = sums.offset.tolist()
    out = np.zeros((len(offset) - 1, n_rows))
    for bag in range(len(offset) - 1):
        for entry in range(offset[bag], offset[bag + 1]):
            out[bag, step.rows[sums.index[entry]]] += sums.weight[entry].item()
    return out


def expected_matrix(rows, weights, n_rows):
    out = np.zeros((len(rows), n_rows))
    for bag in range(len(rows)):
        for row, weight in zip(rows[bag], weights[bag], strict=True):
            out[bag, row] += weight
    return out


def filled(cells):
    """The bool matrix of the cells."""
    out = np.zeros((cells.n_rows, cells.n_columns), dtype=bool)
    out[cells.rows, cells.columns] = True
    return out


def test_an_epoch_shows_each_row_at_most_once_and_all_but_a_remainder():
    data, plan = built()
    per_epoch = data.train.n_rows // BATCH
    assert per_epoch < STEPS
    there = np.column_stack([data.train.statistics, data.train.labels]).astype(np.float32)
    shown = np.concatenate(
        [np.column_stack([plan.step(i).statistics, (plan.step(i).targets.positive > 0).T]) for i in range(per_epoch)]
    )
    pairs, counts = np.unique(shown, axis=0, return_counts=True)
    known, limits = np.unique(there, axis=0, return_counts=True)
    at_most = {tuple(row): count for row, count in zip(known, limits, strict=True)}
    assert counts.sum() == per_epoch * BATCH
    assert all(count <= at_most[tuple(pair)] for pair, count in zip(pairs, counts.tolist(), strict=True))


def test_every_epoch_has_another_order():
    data, plan = built(steps=3 * (dataset().train.n_rows // BATCH))
    per_epoch = data.train.n_rows // BATCH
    firsts = [plan.step(epoch * per_epoch).statistics for epoch in range(3)]
    assert not any(torch.equal(one, other) for i, one in enumerate(firsts) for other in firsts[:i])


def test_a_step_is_independent_of_the_order_in_which_steps_are_built():
    _, forwards = built()
    _, backwards = built()
    late = {index: backwards.step(index) for index in reversed(range(STEPS))}
    for index in range(STEPS):
        assert_same(forwards.step(index), late[index])


@pytest.mark.parametrize("options", [{}, {"content": False}, {"context": False}], ids=str)
def test_every_step_sums_the_rows_of_its_impressions(options):
    data, plan = built(dataset(**options))
    part, n = data.train, data.n_rows
    for index, (batch, positives) in enumerate(zip(*batches(data), strict=True)):
        if index % 7:
            continue
        step = plan.step(index)
        both = np.concatenate([batch, positives])
        users = matrix(step, step.users, n)[step.user_of]
        items = matrix(step, step.items, n)[step.item_of]
        contexts = matrix(step, step.contexts, n)[step.context_of]
        of_users = expected_matrix(data.user_rows[part.users[both]], data.user_weights[part.users[both]], n)
        of_items = expected_matrix(data.item_rows[part.items[both]], data.item_weights[part.items[both]], n)
        of_contexts = expected_matrix(part.context[batch], np.ones(part.context[batch].shape), n)
        np.testing.assert_allclose(users, of_users, rtol=ROUNDING)
        np.testing.assert_allclose(items, of_items, rtol=ROUNDING)
        np.testing.assert_array_equal(contexts, of_contexts)
        np.testing.assert_array_equal(step.statistics, part.statistics[batch].astype(np.float32))
        if data.item_content.shape[1]:
            content = data.item_content[part.items[both]].astype(np.float32)
            np.testing.assert_array_equal(step.content[step.item_of], content)
        else:
            assert step.content is None


def test_uniform_negatives_are_items_of_the_catalogue_drawn_for_the_step():
    data, plan = built()
    for index in range(0, STEPS, 7):
        step, drawn = plan.step(index), uniform_items(data, index)
        found = matrix(step, step.items, data.n_rows)[step.uniform_of]
        expected = expected_matrix(data.item_rows[drawn], data.item_weights[drawn], data.n_rows)
        np.testing.assert_allclose(found, expected, rtol=ROUNDING)
        np.testing.assert_array_equal(step.content[step.uniform_of], data.item_content[drawn].astype(np.float32))


def test_without_uniform_negatives_there_are_none_and_the_rest_is_the_same():
    _, without = built(uniform=0, steps=3)
    _, some = built(steps=3)
    for index in range(3):
        one, other = without.step(index), some.step(index)
        assert len(one.uniform_of) == 0
        assert filled(one.no_uniform).shape == (POSITIVES, 0)
        assert_same(one.no_negative, other.no_negative)
        assert torch.equal(one.statistics, other.statistics)


def test_the_rows_of_a_step_are_exactly_those_it_reads_once_each():
    _, plan = built()
    for index in range(STEPS):
        step = plan.step(index)
        bags = (step.users, step.items, step.contexts, step.history)
        read = np.unique(np.concatenate([step.rows[bag.index].numpy() for bag in bags]))
        np.testing.assert_array_equal(step.rows, read)
        assert step.rows[0] > 0, "row 0 is padding"


@pytest.mark.parametrize("options", [{}, {"context": False}], ids=str)
def test_sums_are_products_with_their_weights(options):
    _, plan = built(dataset(**options), dtype=torch.float64, steps=3)
    for index in range(3):
        step = plan.step(index)
        n = int(step.rows.max()) + 1
        table = torch.randn(n, 5, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
        for sums in (step.users, step.items, step.contexts, step.history):
            expected = torch.tensor(matrix(step, sums, n)) @ table
            torch.testing.assert_close(sums.of(table[step.rows]), expected, rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("options", [{}, {"context": False}], ids=str)
def test_back_is_the_transpose_of_the_sums(options):
    _, plan = built(dataset(**options), dtype=torch.float64, steps=3)
    for index in range(3):
        step = plan.step(index)
        rng = torch.Generator().manual_seed(index)
        rows = torch.randn(len(step.rows), 3, generator=rng, dtype=torch.float64)

        def inner(forward, back, rows=rows, rng=rng):
            """``<A x, y>`` and ``<x, A' y>`` for a random y."""
            sums = torch.cat([part.of(rows) for part in forward])
            y = torch.randn(sums.shape, generator=rng, dtype=torch.float64)
            return (sums * y).sum().item(), (rows * back.of(y)).sum().item()

        one, other = inner((step.users, step.items, step.contexts), step.back)
        assert one == pytest.approx(other, rel=1e-11)
        one, other = inner((step.history,), step.history_back)
        assert one == pytest.approx(other, rel=1e-11)


def test_a_row_that_no_history_reads_gets_the_gradient_zero():
    _, plan = built(dtype=torch.float64, steps=1)
    step = plan.step(0)
    grad = step.history_back.of(torch.ones(POSITIVES, 2, dtype=torch.float64))
    assert grad.shape == (len(step.rows), 2)
    untouched = np.setdiff1d(np.arange(len(step.rows)), step.history.index)
    assert len(untouched) > 0
    assert (grad[untouched] == 0).all()


def test_sums_of_nothing_are_zero():
    empty = torch.zeros(0, dtype=torch.long)
    found = Sums(empty, torch.zeros(4, dtype=torch.long), torch.zeros(0)).of(torch.ones(5, 2))
    assert found.tolist() == [[0.0, 0.0]] * 3


def test_a_history_lacks_the_target_positive():
    data, plan = built()
    part = data.train
    for index, positives in enumerate(batches(data)[1]):
        step = plan.step(index)
        histories = matrix(step, step.history, data.n_rows)
        for history, row in zip(histories, positives, strict=True):
            own = data.item_history_row[part.items[row]]
            expected = set(data.history_rows[part.users[row]].tolist()) - {0, own}
            assert np.flatnonzero(history).tolist() == sorted(expected)
            np.testing.assert_allclose(history[history > 0], (len(expected) + 1) ** -0.5, rtol=ROUNDING)


def test_missing_labels_are_marked_and_never_nan():
    data = with_missing_labels(dataset(), share=0.5)
    _, plan = built(data)
    for index, batch in enumerate(batches(data)[0]):
        step, labels = plan.step(index), data.train.labels[batch].T
        share = 1 / np.maximum((~np.isnan(labels)).sum(1, keepdims=True), 1)
        np.testing.assert_allclose(step.targets.weight, share * ~np.isnan(labels), rtol=ROUNDING)
        np.testing.assert_allclose(step.targets.positive, share * (labels == 1), rtol=ROUNDING)
        np.testing.assert_allclose(step.targets.negative, share * (labels == 0), rtol=ROUNDING)
        np.testing.assert_array_equal(step.has_label, (~np.isnan(labels)).any(1))


def test_a_task_without_a_label_in_the_batch_counts_nothing():
    data = dataset()
    labels = data.train.labels.copy()
    labels[:, 2] = np.nan
    _, plan = built(replace(data, train=replace(data.train, labels=labels)), steps=1)
    assert plan.step(0).targets.weight.sum(1).tolist() == pytest.approx([1, 1, 0], abs=ROUNDING)
    assert plan.step(0).has_label.tolist() == [True, True, False]


def test_what_a_user_is_known_to_want_is_no_negative():
    data, plan = built(steps=9)
    part, liked = data.train, data.train.target > 0
    wanted = set(zip(part.users[liked].tolist(), part.items[liked].tolist(), strict=True))
    found = 0
    for index, positives in enumerate(batches(data)[1][:9]):
        users, items, drawn = part.users[positives], part.items[positives], uniform_items(data, index)
        of_batch, of_uniform = ([[(user, item) in wanted for item in of] for user in users] for of in (items, drawn))
        assert filled(plan.step(index).no_negative).tolist() == of_batch
        assert np.diagonal(of_batch).all()
        assert filled(plan.step(index).no_uniform).tolist() == of_uniform
        found += min(np.sum(of_batch) - POSITIVES, np.sum(of_uniform))
    assert found > 0


def test_a_next_item_is_learned_from_the_positives_before_it():
    data, plan = built(next_item=True)
    part, length = data.train, data.history_rows.shape[1]
    several = 0
    for index, positives in enumerate(batches(data)[1][:20]):
        step = plan.step(index)
        histories = matrix(step, step.history, data.n_rows)
        for history, row in zip(histories, positives, strict=True):
            same_user = np.flatnonzero((part.target > 0) & (part.users == part.users[row]))
            order = sorted(same_user.tolist(), key=lambda r: (part.time[r], r))
            before = order[: order.index(row)][::-1][:length]
            own = data.item_history_row[part.items[row]]
            rows = [data.item_history_row[part.items[r]] for r in before]
            kept = [r for r in rows if r != own]
            expected = np.bincount(kept, minlength=data.n_rows) * (len(kept) + 1) ** -0.5  # a repeat counts each time
            np.testing.assert_allclose(history, expected, rtol=ROUNDING)
            several += len(before) > 1
    assert several > 0


def test_a_recent_item_weighs_more():
    found = history_weights(np.array([[5, 0, 6, 7]]), recency=1.0)
    total = (1 + 1 / 3 + 1 / 4 + 1) ** 0.5  # the padding's 1/2 does not count
    np.testing.assert_allclose(found, [[1 / total, 0.0, (1 / 3) / total, (1 / 4) / total]], rtol=ROUNDING)


def test_a_history_without_items_has_no_weight():
    assert history_weights(np.array([[0, 0]])).tolist() == [[0.0, 0.0]]


def assert_same(one, other):
    assert type(one) is type(other)
    for name, value in vars(one).items():
        found = getattr(other, name)
        if isinstance(value, torch.Tensor | np.ndarray):
            np.testing.assert_array_equal(value, found, err_msg=name)
        elif isinstance(value, Sums | Cells | TaskTargets | NumberTargets | NumberTasks):
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
        found[name] = [shared.step(i) for i in order], shared.work

    threads = [Thread(target=run, args=(0, range(STEPS))), Thread(target=run, args=(1, range(STEPS - 1, -1, -1)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(STEPS):
        assert_same(found[0][0][index], alone.step(index))
        assert_same(found[1][0][STEPS - 1 - index], alone.step(index))
    assert found[0][1] == found[1][1] == alone.work


def n_kept(plan):
    """Steps that are there again when they are asked for a second time."""
    for index in range(len(plan)):
        plan.step(index)
    return sum(plan.step(index) is plan.step(index) for index in range(len(plan)))


def test_steps_are_kept_until_the_memory_for_them_is_full():
    _, plan = built(steps=8)
    assert n_kept(plan) == 8
    sizes = [n_bytes(plan.step(index)) for index in range(8)]
    for memory, expected in ((0, 0), (sum(sizes[:3]), 3), (sum(sizes), 8)):
        _, other = built(steps=8, kept_bytes=memory)
        assert n_kept(other) == expected
        for index in range(8):
            assert_same(other.step(index), plan.step(index))


def test_the_memory_of_a_step_is_that_of_all_its_arrays():
    step = built(steps=1)[1].step(0)

    def slow_n_bytes(value):
        if isinstance(value, torch.Tensor | np.ndarray):
            return np.asarray(value).nbytes
        nested = isinstance(value, Sums | Cells | TaskTargets | NumberTargets | NumberTasks)
        return sum(map(slow_n_bytes, vars(value).values())) if nested else 0

    assert n_bytes(step) == sum(map(slow_n_bytes, vars(step).values()))
    assert filled(step.no_negative).sum() == len(step.no_negative.rows) < filled(step.no_negative).size / 2


def test_another_process_gets_the_plan_without_its_steps():
    _, plan = built(steps=6)
    before = len(pickle.dumps(plan))
    work = built(steps=6)[1].work
    steps = [plan.step(index) for index in range(6)]
    assert len(pickle.dumps(plan)) < before + n_bytes(steps[0])
    other = pickle.loads(pickle.dumps(plan))
    assert n_kept(other) == len(other) == 6
    for index, step in enumerate(steps):
        assert_same(other.step(index), step)
    assert other.work == plan.work == work


def test_a_batch_is_never_larger_than_the_data():
    data, plan = built(steps=2, batch=10_000, positives=8000)
    step, n_positives = plan.step(1), int((data.train.target > 0).sum())
    assert step.batch_size == plan.batch_size == plan.work.batch == data.train.n_rows
    assert (step.no_negative.n_rows, step.no_negative.n_columns) == (n_positives, n_positives)
    assert plan.retrieval_batch == plan.work.positives == n_positives


def test_the_work_of_a_step_is_the_average_of_its_sizes():
    data, plan = built(steps=3)
    part, work = data.train, plan.work
    assert (work.batch, work.positives, work.uniform) == (BATCH, POSITIVES, UNIFORM)
    sizes = []
    for index, (batch, positives) in enumerate(list(zip(*batches(data), strict=True))[:3]):
        step, both = plan.step(index), np.concatenate([batch, positives])
        own, drawn = np.unique(part.items[both]), np.setdiff1d(uniform_items(data, index), part.items[both])
        users, contexts = np.unique(part.users[both]), np.unique(part.context[batch], axis=0)

        def entries(rows, weights, of):
            return rows[of][weights[of] != 0]

        of_users = entries(data.user_rows, data.user_weights, users)
        of_own, of_drawn = (entries(data.item_rows, data.item_weights, items) for items in (own, drawn))
        without_history = set(of_users) | set(of_own) | set(contexts.ravel())
        with_drawn = without_history | set(of_drawn)
        history = set(step.rows[step.history.index].tolist())
        sizes.append(
            {
                "rows": len(without_history),
                "history_rows": len(without_history | history) - len(without_history),
                "bag_entries": len(of_users) + len(of_own) + contexts.size,
                "history_entries": len(step.history.index),
                "items": len(own),
                "uniform_rows": len(with_drawn) - len(without_history),
                "uniform_entries": len(of_drawn),
                "uniform_items": len(drawn),
            }
        )
    for name in sizes[0]:
        assert getattr(work, name) == pytest.approx(np.mean([size[name] for size in sizes])), name


def test_the_plan_depends_on_the_seed():
    data = dataset()
    on_device = device_data(data)
    plan = plan_of(data, on_device, steps=1)
    config = TrainConfig(steps=1, batch_size=37, retrieval_batch=29, uniform_negatives=UNIFORM)
    other = BatchPlan(data, config, seed=SEED + 1, data=on_device)
    assert not torch.equal(plan.step(0).user_of, other.step(0).user_of)
    assert not torch.equal(plan.step(0).uniform_of, other.step(0).uniform_of)
