"""What a model costs, counted instead of timed: the same number on every machine.

A FLOP is one addition or multiplication, so a multiply-add (MAC) is 2 FLOPs. Counts are of one model as if it were
trained or served alone; activation functions, biases and random numbers are left out, as is customary.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from evorec.errors import DataError

FLOPS_PER_MAC = 2
BACKWARD_PER_FORWARD = 2
"""A backward pass computes the gradient of the inputs and of the weights: two products per forward product."""
ADAM_FLOPS = 12
"""Per parameter and step: first moment 3, second moment 4, step 5 (root, epsilon, division, rate, subtraction)."""

ADAFACTOR_FLOPS = 13
"""Per parameter and step: squares summed by row and by column 4, product of both 1, root and product with the gradient
2, root mean squares of parameter and update 4, step 2. What it saves is memory."""


def training_flops(
    *,
    steps: int,
    forward_macs: int,
    dense_updates: int,
    row_updates: int,
    extra_macs: int = 0,
    flops_per_update: int = ADAM_FLOPS,
) -> int:
    """Arithmetic of a whole training run: ``steps * (2 (3 macs + extra) + 12 updates)``.

    Args:
        steps: optimiser steps.
        forward_macs: multiply-adds of one step's forward pass: all rows, ranking and retrieval, in-batch softmax.
        dense_updates: dense parameters, updated in every step.
        row_updates: embedding parameters updated in one step: rows touched times width, on average.
        extra_macs: multiply-adds of one step that loss balancing adds, e.g. further backward passes.
        flops_per_update: of the optimiser, `ADAM_FLOPS` or `ADAFACTOR_FLOPS`.
    Returns:
        FLOPs, >= 0, lower is cheaper.
    Raises:
        DataError: a count is negative.
    Source: Kaplan et al. 2020, backward = 2 forward; Adam counted by `ADAM_FLOPS`. Cost: O(1).
    Example:
        >>> training_flops(steps=10, forward_macs=100, dense_updates=5, row_updates=3)  # 10 * (600 + 96)
        6960
    """
    macs = _count(forward_macs) * (1 + BACKWARD_PER_FORWARD) + _count(extra_macs)
    updates = _count(dense_updates) + _count(row_updates)
    return _count(steps) * (FLOPS_PER_MAC * macs + _count(flops_per_update) * updates)


def inference_flops(*, user_macs: int, n_items: int, width: int, candidates: int, ranker_macs: int) -> int:
    """Arithmetic of one request: user vector, dot products with the catalogue, ranker on the candidates.

    ``2 (user_macs + n_items * width + candidates * ranker_macs)``; item vectors are computed ahead of requests.

    Args:
        user_macs: multiply-adds that make the user vector.
        n_items: size of the catalogue.
        width: length of the user and item vectors of the retrieval stage.
        candidates: items that the ranker scores; 0 when retrieval decides alone.
        ranker_macs: multiply-adds of the ranker for one candidate.
    Returns:
        FLOPs per request, >= 0, lower is cheaper.
    Raises:
        DataError: a count is negative.
    Source: counting the two stages. Cost: O(1).
    Example:
        >>> inference_flops(user_macs=10, n_items=100, width=4, candidates=5, ranker_macs=20)  # 2 * 510
        1020
    """
    retrieval = _count(user_macs) + _count(n_items) * _count(width)
    return FLOPS_PER_MAC * (retrieval + _count(candidates) * _count(ranker_macs))


def model_bytes(n_parameters: int, *, bytes_per_parameter: int = 4) -> int:
    """Size of the stored parameters, without file headers and id vocabularies.

    Args:
        n_parameters: trained numbers, from `parameters`.
        bytes_per_parameter: 4 for float32, 2 for bfloat16, 8 for float64.
    Returns:
        Bytes, >= 0, lower is smaller.
    Raises:
        DataError: a count is negative.
    Source: counting. Cost: O(1).
    Example:
        >>> model_bytes(836)
        3344
    """
    return _count(n_parameters) * _count(bytes_per_parameter)


def latency_ms(call: Callable[[], object], *, repeats: int, warmup: int = 3) -> float:
    """Median wall time of a call on this machine; for reports, too noisy to search on.

    Args:
        call: what to time; on a GPU it must wait for the device itself.
        repeats: timed calls, >= 1.
        warmup: calls before them that are not timed, >= 0.
    Returns:
        Milliseconds, > 0, lower is faster.
    Raises:
        DataError: ``repeats < 1`` or ``warmup < 0``.
    Source: the median resists a disturbed call. Cost: ``warmup + repeats`` calls.
    Example:
        >>> latency_ms(lambda: sum(range(1000)), repeats=5) > 0
        True
    """
    if repeats < 1:
        raise DataError(f"latency_ms needs repeats >= 1, got {repeats}.")
    for _ in range(_count(warmup)):
        call()
    times_ns = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        call()
        times_ns.append(time.perf_counter_ns() - start)
    return median(times_ns) / 1e6


def _count(value: int) -> int:
    if value < 0:
        raise DataError(f"a count must be >= 0, got {value}.")
    return int(value)
