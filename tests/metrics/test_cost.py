"""Counted costs against layers worked by hand and against torch's own counts."""

import time
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from evorec.errors import DataError
from evorec.metrics.cost import ADAM_FLOPS, ModelCounts, latency_ms
from evorec.metrics.metric import measure, metrics_of

LAYERS = [(16, 32), (16, 32), (16, 32), (32, 8), (8, 1), (8, 1)]


COUNTS = ModelCounts(
    steps=50,
    forward_macs=100,
    dense_updates=7,
    row_updates=3,
    extra_macs=2 * 100,
    flops_per_update=ADAM_FLOPS,
    flops_per_row_update=4,
    user_macs=64,
    n_items=1000,
    width=8,
    candidates=200,
    ranker_macs=500,
    n_parameters=50,
    bytes_per_parameter=2,
)


def costs(**changes):
    return measure(replace(COUNTS, **changes), metrics_of(ModelCounts)).values


def test_forward_and_backward_products_agree_with_the_counter_of_torch():
    rows = 5
    with FlopCounterMode(display=False) as counter:
        for layer in (torch.nn.Linear(*size) for size in LAYERS):
            layer(torch.ones(rows, layer.in_features, requires_grad=True)).sum().backward()
    macs = rows * sum(n_in * n_out for n_in, n_out in LAYERS)
    counted = costs(steps=1, forward_macs=macs, dense_updates=0, row_updates=0, extra_macs=0)
    assert counted["training_flops"] == counter.get_total_flops()


def test_costs_worked_by_hand():
    assert costs() == {
        "training_flops": 50 * (200 + 400 + 400 + 96),  # forward, backward, extra backward, updates 12 * 7 + 4 * 3
        "inference_flops": 2 * (64 + 8000 + 100_000),  # user tower, products of width 8, candidates
        "parameters": 50,
        "model_bytes": 100,
    }


def test_counts_do_not_overflow():
    counted = costs(steps=10**6, forward_macs=10**14, dense_updates=0, row_updates=0, extra_macs=0)
    assert counted["training_flops"] == 6 * 10**20


def test_negative_counts_are_refused():
    with pytest.raises(DataError, match="n_parameters must be >= 0, got -1"):
        costs(n_parameters=-1)


def test_latency_is_the_median_in_milliseconds_after_the_warm_up(monkeypatch):
    ticks = iter([0, 3_000_000, 0, 50_000_000, 0, 5_000_000])  # 3, 50 and 5 ms
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks))
    calls = []
    assert latency_ms(lambda: calls.append(1), repeats=3, warmup=2) == 5.0
    assert len(calls) == 5


def test_latency_without_a_timed_call_is_refused():
    with pytest.raises(DataError, match="repeats >= 1 and warmup >= 0, got 0"):
        latency_ms(lambda: None, repeats=0)
