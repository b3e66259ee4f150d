"""An ensemble measured exactly: all rows, all users that lists are measured for, the whole catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from evorec.archive.ensemble import Ensemble
from evorec.errors import RunError, TrainingError
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.training.evaluate import MemberMetrics, measure_mixture, mixture_logits
from evorec.training.trainer import Weights


def measure_ensemble(
    ensemble: Ensemble, specs: Mapping[str, ModelSpec], weights: Mapping[str, Weights], data: EncodedData
) -> MemberMetrics:
    """Held-out metrics of an ensemble, without costs.

    Args:
        ensemble: members and their shares.
        specs, weights: by member, of at least its members.
        data: whose held-out part is measured.
    Raises:
        RunError: its scores are not finite.
    """
    keys = ensemble.members
    stack = data.stack([specs[key] for key in keys], [weights[key] for key in keys])
    try:
        return measure_mixture(stack, ensemble.tasks, ensemble.lists, data.tensors, data.held_out)
    except TrainingError as error:
        raise RunError(f"ensemble {ensemble.key}: {error}; choose other members") from None


def ensemble_logits(
    ensemble: Ensemble, specs: Mapping[str, ModelSpec], weights: Mapping[str, Weights], data: EncodedData
) -> npt.NDArray[np.floating[Any]]:
    """Task outputs of an ensemble for every held-out row, ``(T, N)``; arguments as of `measure_ensemble`."""
    keys = ensemble.members
    stack = data.stack([specs[key] for key in keys], [weights[key] for key in keys])
    return mixture_logits(stack, ensemble.tasks, data.tensors, data.dataset.held_out)
