"""Counted costs against layers worked by hand and against torch's own counts."""

import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from evorec.errors import DataError
from evorec.metrics.cost import (
    inference_flops,
    latency_ms,
    model_bytes,
    training_flops,
)

LAYERS = [(16, 32), (16, 32), (16, 32), (32, 8), (8, 1), (8, 1)]


def test_forward_and_backward_products_agree_with_the_counter_of_torch():
    rows = 5
    with FlopCounterMode(display=False) as counter:
        for layer in (torch.nn.Linear(*size) for size in LAYERS):
            layer(torch.ones(rows, layer.in_features, requires_grad=True)).sum().backward()
    counted = training_flops(
        steps=1, forward_macs=rows * sum(n_in * n_out for n_in, n_out in LAYERS), dense_updates=0, row_updates=0
    )
    assert counted == counter.get_total_flops()


def test_training_flops_worked_by_hand():
    # a step: forward 2*100, backward 4*100, one extra backward 4*100, Adam 12 * (7 + 3)
    expected = 50 * (200 + 400 + 400 + 120)
    counted = training_flops(steps=50, forward_macs=100, dense_updates=7, row_updates=3, extra_macs=2 * 100)
    assert counted == expected


def test_inference_flops_worked_by_hand():
    # user tower 64, 1000 dot products of width 8, 200 candidates of 500 MACs
    counted = inference_flops(user_macs=64, n_items=1000, width=8, candidates=200, ranker_macs=500)
    assert counted == 2 * (64 + 8000 + 100_000)


def test_model_bytes_are_bytes_of_all_parameters():
    assert model_bytes(50) == 200
    assert model_bytes(50, bytes_per_parameter=2) == 100


def test_counts_do_not_overflow():
    assert training_flops(steps=10**6, forward_macs=10**14, dense_updates=0, row_updates=0) == 6 * 10**20


def test_negative_counts_are_refused():
    with pytest.raises(DataError, match="must be >= 0, got -1"):
        model_bytes(-1)


def test_latency_is_the_median_in_milliseconds_after_the_warm_up(monkeypatch):
    ticks = iter([0, 3_000_000, 0, 50_000_000, 0, 5_000_000])  # 3, 50 and 5 ms
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks))
    calls = []
    assert latency_ms(lambda: calls.append(1), repeats=3, warmup=2) == 5.0
    assert len(calls) == 5


def test_latency_without_a_timed_call_is_refused():
    with pytest.raises(DataError, match="repeats >= 1, got 0"):
        latency_ms(lambda: None, repeats=0)
