"""Costs of a model, counted instead of timed: the same number on every machine.

A FLOP is a single addition or multiplication, so a multiply-add (MAC) is 2 FLOPs. Counts are those of a single model,
as if it were trained and served without others; activation functions, biases and random numbers are left out, as is
customary. A search finds the usual corners of a counted cost in its space.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from statistics import median
from typing import Any, Final, final

from evorec.errors import DataError
from evorec.metrics.metric import metric

FLOPS_PER_MAC = 2
BACKWARD_PER_FORWARD = 2
"""A backward pass computes the gradient of the inputs and of the weights: two products per forward product."""
ADAM_FLOPS = 12
"""Per parameter and step: first moment 3, second moment 4, step 5 (root, epsilon, division, rate, subtraction)."""

ADAFACTOR_FLOPS = 13
"""Per parameter and step: squares summed by row and by column 4, product of both 1, root and product with the gradient
2, root mean squares of parameter and update 4, step 2. It saves memory, not arithmetic."""
ROWWISE_ADAGRAD_FLOPS = 5
"""Per embedding parameter and step: square and its sum 2, product with the row's step and subtraction 2; mean, sum,
root, epsilon and division, which are per row, 1 at most for rows of 8 parameters."""
AVERAGE_FLOPS = 3
"""Of a moving average per parameter and step: two products and a sum. A row of an embedding table pays it a second
time, for the steps since it was last read."""
LATENCY_REPEATS: Final = 20


@final
@dataclass(frozen=True)
class ModelCounts:
    """Sizes of the training, the requests and the parameters of a model.

    Attributes:
        steps: optimiser steps.
        forward_macs: multiply-adds of the forward pass of a step: all rows, ranking and retrieval, in-batch softmax.
        dense_updates: dense parameters, updated in every step.
        row_updates: embedding parameters updated per step: rows touched times width, on average.
        extra_macs: further multiply-adds per step: of loss balancing, e.g. backward passes, and of graph layers.
        flops_per_update: of the optimiser, `ADAM_FLOPS` or `ADAFACTOR_FLOPS`.
        user_macs: multiply-adds that make the user vector of a request.
        n_items: size of the catalogue.
        width: length of the user and item vectors of the retrieval stage.
        candidates: items that the ranker scores; 0 when retrieval decides alone.
        ranker_macs: multiply-adds of the ranker per candidate.
        n_parameters: trained numbers.
        fit_flops: arithmetic of closed forms and of the last graph layers, once per training run.
        item_item_macs: multiply-adds of the item-item scores of a request.
        n_fitted, fitted_bytes: numbers of closed forms, and their bytes with those of indices.
        bytes_per_parameter: 4 for float32, 2 for bfloat16, 8 for float64.
        flops_per_row_update: of the optimiser of the embedding parameters.
    Raises:
        DataError: a count is negative.
    """

    steps: int
    forward_macs: int
    dense_updates: int
    row_updates: int
    extra_macs: int
    flops_per_update: int
    user_macs: int
    n_items: int
    width: int
    candidates: int
    ranker_macs: int
    n_parameters: int
    bytes_per_parameter: int
    flops_per_row_update: int
    fit_flops: int = 0
    item_item_macs: int = 0
    n_fitted: int = 0
    fitted_bytes: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise DataError(f"{field.name} must be >= 0, got {getattr(self, field.name)}.")


@final
@dataclass(frozen=True)
class Timing:
    """A model on this machine, for metrics measured by a clock.

    Attributes:
        train_seconds: wall time of its training run and its evaluation.
        request: recommends to a single user.
    """

    train_seconds: float
    request: Callable[[], object]


COST: Final[dict[str, Any]] = {"direction": "min", "ideal": None, "worst": None, "log10": True}


TRAINING = "arithmetic of the training run, counted"


@metric("training_flops", of=ModelCounts, unit="FLOP", text=TRAINING, aliases=("cost",), **COST)
def training_flops(
    steps: int,
    forward_macs: int,
    dense_updates: int,
    row_updates: int,
    extra_macs: int,
    flops_per_update: int,
    flops_per_row_update: int,
    fit_flops: int = 0,
) -> int:
    """Arithmetic of a training run: ``steps * (2 (3 macs + extra) + updates) + fit``, each update by its FLOPs.

    Args:
        steps, forward_macs, dense_updates, row_updates, extra_macs: see `ModelCounts`.
        flops_per_update, flops_per_row_update, fit_flops: see `ModelCounts`.
    Returns:
        FLOPs, >= 0, lower is cheaper.
    Source: Kaplan et al. 2020, backward = 2 forward; Adam counted by `ADAM_FLOPS`. Cost: O(1).
    Example:
        >>> training_flops(10, 100, 5, 3, 0, ADAM_FLOPS, ADAM_FLOPS)  # 10 * (600 + 96)
        6960
    """
    macs = forward_macs * (1 + BACKWARD_PER_FORWARD) + extra_macs
    updates = flops_per_update * dense_updates + flops_per_row_update * row_updates
    return steps * (FLOPS_PER_MAC * macs + updates) + fit_flops


@metric("inference_flops", of=ModelCounts, unit="FLOP", text="arithmetic of a request, counted", **COST)
def inference_flops(
    user_macs: int, n_items: int, width: int, candidates: int, ranker_macs: int, item_item_macs: int = 0
) -> int:
    """Arithmetic of a request: user vector, products with the catalogue, item-item scores, ranker on the candidates.

    ``2 (user_macs + n_items * width + item_item_macs + candidates * ranker_macs)``; item vectors and item-item matrices
    are computed ahead of requests.

    Args:
        user_macs, n_items, width, candidates, ranker_macs, item_item_macs: see `ModelCounts`.
    Returns:
        FLOPs per request, >= 0, lower is cheaper.
    Source: counting the two stages. Cost: O(1).
    Example:
        >>> inference_flops(user_macs=10, n_items=100, width=4, candidates=5, ranker_macs=20)  # 2 * 510
        1020
    """
    return FLOPS_PER_MAC * (user_macs + n_items * width + item_item_macs + candidates * ranker_macs)


@metric("parameters", of=ModelCounts, unit="", text="trained numbers", **COST)
def parameters(n_parameters: int, n_fitted: int = 0) -> int:
    """Trained numbers of the model, those of closed forms included, >= 0; lower is smaller."""
    return n_parameters + n_fitted


@metric("model_bytes", of=ModelCounts, unit="B", text="size of the weights", **COST)
def model_bytes(n_parameters: int, bytes_per_parameter: int, fitted_bytes: int = 0) -> int:
    """Size of the stored parameters in bytes, without file headers and id vocabularies; lower is smaller.

    Example:
        >>> model_bytes(836, 4)
        3344
    """
    return n_parameters * bytes_per_parameter + fitted_bytes


@metric("train_seconds", of=Timing, unit="s", text="wall time of the training run, measured", **COST)
def train_seconds(train_seconds: float) -> float:
    """Wall time of the training run in seconds, > 0; differs from run to run."""
    return train_seconds


@metric("latency_ms", of=Timing, unit="ms", text="wall time of a request, measured", on_demand=True, **COST)
def latency_ms(request: Callable[[], object], *, repeats: int = LATENCY_REPEATS, warmup: int = 3) -> float:
    """Median wall time of a call on this machine; for reports, too noisy to search on.

    Args:
        request: the call to time; on a GPU it must wait for the device itself.
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
    if repeats < 1 or warmup < 0:
        raise DataError(f"latency_ms needs repeats >= 1 and warmup >= 0, got {repeats} and {warmup}.")
    for _ in range(warmup):
        request()
    times_ns = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        request()
        times_ns.append(time.perf_counter_ns() - start)
    return median(times_ns) / 1e6
