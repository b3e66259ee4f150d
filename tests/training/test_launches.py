"""What a training step starts on its device, counted on a CPU: few kernels however many members, and no waiting."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import (
    BALANCINGS,
    FUNNEL_MECHANISMS,
    MECHANISMS,
    dataset,
    device_data,
    number_dataset,
    plan_of,
    spec,
    trained,
    with_missing_labels,
)
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from training.test_trainer import MEMBERS

from evorec.models import devices, layers
from evorec.models.balancings import nash
from evorec.models.devices import to_device
from evorec.training import id_dropout, trainer
from evorec.training import step as steps

INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_")
NO_KERNEL = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
"""Beside views: operations that compute nothing."""

WAITING = {
    "_local_scalar_dense": "a value is read on the host: item, bool, int, float",
    "equal": "its answer is a Python bool",
    "is_nonzero": "likewise",
    "nonzero": "the size of its result is known on the device alone",
    "masked_select": "likewise",
    "_unique2": "likewise",
    "unique_dim": "likewise",
    "unique_consecutive": "likewise",
    "bincount": "likewise",
    "repeat_interleave": "likewise, of repeats on the device",
    **{f"{name} by mask": "it looks for the true places, as nonzero does" for name in INDEXED},
}
"""Operations after which the host can go on only when the device has caught up, and why."""
FROM_HOST = "lift_fresh"
"""What makes a tensor of Python numbers: from such memory a device copies when all work before is done."""
PRODUCTS = {"bmm", "baddbmm"}

LAST = 2  # the first steps prepare what later ones find
FLOAT64 = 1e-12  # parameters after three steps in float64, with sums in another order


class Recorded(TorchDispatchMode):
    """Names of the operations that run, but for views."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in INDEXED and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
            name += " by mask"
        if not func.is_view or name == FROM_HOST:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def ahead(monkeypatch):
    """The program of a device on which work is only queued."""
    for module in (steps, layers):
        monkeypatch.setattr(module, "runs_ahead", lambda device: True)
    for module in (devices, trainer, id_dropout):
        monkeypatch.setattr(module, "to_device", unrecorded)
    monkeypatch.setattr(nash, "_may_wait", lambda x: False)
    monkeypatch.setattr(layers, "_lone_is_exact", lambda *shape: True)  # called only on a CPU


def unrecorded(*args):
    """`to_device`: a GPU gets this copy without waiting."""
    with _disable_current_modes():
        return to_device(*args)


def one_step(specs, data=None):
    """Operations of one whole step in the middle of a training, from one request for a batch to the next."""
    data = data or dataset()
    on_device = device_data(data, layers=3)
    plan = plan_of(data, on_device, steps=LAST + 1, batch=12, positives=7)
    kept = [plan.step(index) for index in range(LAST + 1)]
    recorded = Recorded()
    with ExitStack() as stack:

        def watched(index, *, sequences):
            if index == LAST - 1:
                stack.enter_context(recorded)
            elif index == LAST:
                stack.close()
            return kept[index]

        plan.step = watched
        trained(specs, plan, on_device, block_size=len(specs))
    return recorded.names


def launches(specs):
    """Operation -> how often it starts a kernel in one step."""
    return Counter(name for name in one_step(specs) if name not in NO_KERNEL)


def alike_members(mechanism, balancing):
    one = spec(mechanism=mechanism, balancing=balancing, dropout=0.1, negative_source="uniform")
    return [replace(one, learning_rate=1e-3 * (1 + i), temperature=0.1 + 0.01 * i) for i in range(32)]


every_way = pytest.mark.parametrize(
    ("mechanism", "balancing"),
    [*((mechanism, "fixed") for mechanism in MECHANISMS), *(("shared_bottom", kind) for kind in BALANCINGS)],
)


@every_way
def test_more_members_of_a_shape_start_no_more_kernels_besides_products(ahead, mechanism, balancing):
    members = alike_members(mechanism, balancing)
    few, many = (launches(members[:n]) for n in (8, 32))
    assert {**few, **dict.fromkeys(PRODUCTS)} == {**many, **dict.fromkeys(PRODUCTS)}


@every_way
def test_more_members_of_a_shape_start_no_more_products(ahead, mechanism, balancing):
    members = alike_members(mechanism, balancing)
    few, many = (launches(members[:n]) for n in (8, 32))
    assert few == many


def test_no_step_waits_for_the_device(ahead):
    found = Counter(one_step(MEMBERS, with_missing_labels(dataset())))
    assert not {name: WAITING[name] for name in found if name in WAITING}


def test_no_step_with_numbers_among_its_labels_waits_or_copies(ahead):
    members = [one for one in MEMBERS if one.mechanism not in FUNNEL_MECHANISMS]
    found = Counter(one_step(members, with_missing_labels(number_dataset())))
    assert not {name: WAITING[name] for name in found if name in WAITING}
    assert FROM_HOST not in found


def test_nothing_is_copied_from_the_host_in_a_step(ahead):
    assert FROM_HOST not in one_step(MEMBERS)


def test_what_would_wait_is_recorded():
    values = torch.arange(3.0)
    with Recorded() as recorded:
        bool(values.sum() > 1), values[values > 1], values[[0, 1]]
        values[values > 1] = 5.0
        torch.unique(values), torch.equal(values, values), torch.bincount(values.long())
    expected = {"_local_scalar_dense", "index by mask", "index_put_ by mask", "_unique2", "equal", "bincount"}
    assert expected < WAITING.keys()
    assert {*expected, FROM_HOST} <= set(recorded.names)


def test_members_in_common_kernels_train_as_single_members_do(ahead, monkeypatch):
    data = with_missing_labels(dataset())
    on_device = device_data(data, layers=3, dtype=torch.float64)
    plan = plan_of(data, on_device, steps=3, batch=12, positives=7)
    members = [one for one in MEMBERS for _ in range(2)]
    together = trained(members, plan, on_device).population
    monkeypatch.undo()
    alone = trained(members, plan, on_device).population
    for member in range(len(members)):
        found = together.member_arrays(member)
        for name, array in alone.member_arrays(member).items():
            np.testing.assert_allclose(found[name], array, rtol=0, atol=FLOAT64, err_msg=f"{member} {name}")
