"""What one member costs, counted from its spec: as if it trained alone, whatever it was stacked with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from evorec.metrics.cost import (
    Dense,
    dense_macs,
    dense_parameters,
    inference_flops,
    model_bytes,
    parameters,
    training_flops,
)
from evorec.models.population import InputShape
from evorec.models.spec import ModelSpec


@final
@dataclass(frozen=True)
class StepWork:
    """Sizes of an average step of the shared stream.

    Attributes:
        batch: rows of the ranker.
        positives: rows of the retrieval loss.
        rows, history_rows: unique embedding rows, those of histories apart.
        bag_entries, history_entries: weighted rows that are summed into vectors.
        items: unique items, each projected from its content.
    """

    batch: int
    positives: int
    rows: float
    history_rows: float
    bag_entries: float
    history_entries: float
    items: float


@final
@dataclass(frozen=True)
class CatalogueWork:
    """Sizes of a request and of the stored model.

    Attributes:
        n_items: catalogue.
        user_fields: embedding rows of a user.
        history_rows: embedding rows of the history table.
        history_length: most past positives of a user.
        candidates: items that the ranker re-orders.
    """

    n_items: int
    user_fields: int
    history_rows: int
    history_length: int
    candidates: int


def ranker_layers(spec: ModelSpec, shape: InputShape) -> list[Dense]:
    """Dense layers of one member: shared ones once, later ones once per task, one logit per task."""
    layers = [
        Dense(n_in, spec.width, 1 if level < spec.sharing_depth else shape.n_tasks)
        for level, n_in in enumerate(shape.layer_inputs(spec.embedding_dim, spec.width))
    ]
    return [*layers, Dense(spec.width, 1, shape.n_tasks)]


def member_cost(
    spec: ModelSpec,
    shape: InputShape,
    step: StepWork,
    catalogue: CatalogueWork,
    *,
    steps: int,
    bytes_per_parameter: int,
) -> dict[str, float]:
    """Counted cost of one member.

    Returns:
        ``training_flops``, ``inference_flops``, ``parameters`` and ``model_bytes``.
    """
    layers, dim = ranker_layers(spec, shape), spec.embedding_dim
    history = spec.history_weight > 0
    entries = step.bag_entries + history * step.history_entries
    rows = step.rows + history * step.history_rows
    content = shape.n_content * dim
    forward = (
        step.batch * dense_macs(layers) + step.positives**2 * dim + round(entries * dim) + round(step.items * content)
    )
    table_rows = shape.n_rows - (0 if history else catalogue.history_rows)
    n_parameters = parameters(layers, table_rows=table_rows, width=dim) + content
    user_entries = catalogue.user_fields + history * catalogue.history_length
    return {
        "training_flops": float(
            training_flops(
                steps=steps,
                forward_macs=forward,
                dense_updates=dense_parameters(layers) + content,
                row_updates=round(rows * dim),
            )
        ),
        "inference_flops": float(
            inference_flops(
                user_macs=user_entries * dim,
                n_items=catalogue.n_items,
                width=dim,
                candidates=catalogue.candidates if spec.rank_blend > 0 else 0,
                ranker_macs=dense_macs(layers),
            )
        ),
        "parameters": float(n_parameters),
        "model_bytes": float(model_bytes(n_parameters, bytes_per_parameter=bytes_per_parameter)),
    }
