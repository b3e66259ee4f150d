"""Cost of a member, counted from its spec: independent of the members that train in the same stack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from math import prod
from typing import Any, final

import numpy as np

from evorec.errors import ConfigError
from evorec.metrics.cost import AVERAGE_FLOPS, FLOPS_PER_MAC, ModelCounts
from evorec.metrics.metric import measure, metrics_of
from evorec.models.balancing import BALANCINGS
from evorec.models.encoder import ENCODERS
from evorec.models.input_shape import InputShape
from evorec.models.item_item import ITEM_ITEMS, Positives, with_defaults
from evorec.models.mechanism import build_network, forward_macs, n_dense_parameters, n_groups
from evorec.models.optimizer import OPTIMIZERS
from evorec.models.population import encoder_tensors
from evorec.models.slots import SHARED
from evorec.models.spec import USE, ModelSpec
from evorec.models.switches import adapted_content, off_rows, untrained_content
from evorec.space.gene import Gene, Value
from evorec.space.genes import Boolean, Categorical, Integer, Real
from evorec.space.space import SearchSpace

FREE_AT_ZERO = ("ema", "next_item", "neighbour_weight")
"""Real genes whose value 0 leaves something out, which then costs nothing."""
MOST_TRIED = 9
"""An integer gene with at most this many values is tried at all of them, else at both bounds."""


@final
@dataclass(frozen=True)
class StepWork:
    """Sizes of an average step of the shared stream.

    Attributes:
        batch: rows of the ranker.
        positives: rows of the retrieval loss.
        rows, history_rows: unique embedding rows, without and only those of histories.
        bag_entries, history_entries: weighted rows that are summed into vectors.
        items: unique items, each projected from its content.
        past_rows, joint_rows: as `history_rows`, of the pasts of the ranker's rows, and of both.
        past_entries: positives in these pasts.
        uniform: items drawn uniformly as negatives.
        uniform_rows, uniform_entries, uniform_items: rows, entries and items that only they need.
        nodes, uniform_nodes: the part of users and items with a positive in `rows` and `uniform_rows`.
        block_rows, block_entries, block_uniform_rows, block_uniform_entries: the part of each block of the input that
            has rows (`InputShape.row_blocks`) in `rows`, `bag_entries`, `uniform_rows` and `uniform_entries`.
        read, pairs: positions of sequences, and cells of their grid times the length of its rows.
    """

    batch: int
    positives: int
    rows: float
    history_rows: float
    bag_entries: float
    history_entries: float
    items: float
    past_rows: float = 0.0
    joint_rows: float = 0.0
    past_entries: float = 0.0
    uniform: int = 0
    uniform_rows: float = 0.0
    uniform_entries: float = 0.0
    uniform_items: float = 0.0
    nodes: float = 0.0
    uniform_nodes: float = 0.0
    block_rows: tuple[float, ...] = ()
    block_entries: tuple[float, ...] = ()
    block_uniform_rows: tuple[float, ...] = ()
    block_uniform_entries: tuple[float, ...] = ()
    read: float = 0.0
    pairs: float = 0.0


def mean_work(steps: Sequence[StepWork]) -> StepWork:
    """Mean sizes of steps of equal batches."""
    counts = ("batch", "positives", "uniform")
    means: dict[str, Any] = {}
    for name in (field.name for field in fields(StepWork)):
        values = [getattr(step, name) for step in steps]
        is_by_block = name.startswith("block_")
        means[name] = tuple(np.mean(values, axis=0).tolist()) if is_by_block else float(np.mean(values))
    return StepWork(**{**means, **{name: getattr(steps[0], name) for name in counts}})


@final
@dataclass(frozen=True)
class CatalogueWork:
    """Sizes of a request and of the stored model.

    Attributes:
        n_items: catalogue.
        user_fields: embedding rows of a user; without items, those of a row's context.
        history_rows: embedding rows of the history table.
        history_length: most past positives of a user.
        candidates: items that the ranker re-orders; without items 1, the row that a request asks about.
        positives: of item-item matrices; ``None`` = no member has any.
    """

    n_items: int
    user_fields: int
    history_rows: int
    history_length: int
    candidates: int
    positives: Positives | None = None


def member_cost(
    spec: ModelSpec,
    shape: InputShape,
    step: StepWork,
    catalogue: CatalogueWork,
    *,
    steps: int,
    bytes_per_parameter: int,
) -> dict[str, float]:
    """Counted cost of a member.

    Task tables count for all rows but those of histories, which only the shared table uses. Features that are
    switched off do not count.

    Returns:
        Every metric of `ModelCounts` by key.
    Raises:
        ConfigError: the member takes negatives that the step does not draw.
    """
    counts = _counts(spec, shape, step, catalogue, steps, bytes_per_parameter)
    return measure(counts, metrics_of(ModelCounts)).values


@lru_cache(maxsize=4096)  # a process that builds several problems on the same data counts the same specs again
def _counts(
    spec: ModelSpec, shape: InputShape, step: StepWork, catalogue: CatalogueWork, steps: int, bytes_per_parameter: int
) -> ModelCounts:
    uniform = 0.0  # share of the uniformly drawn items that the member uses
    if spec.negative_source == "uniform":
        if step.uniform == 0:
            raise ConfigError("negative_source = 'uniform' needs training.uniform_negatives >= 1, got 0")
        uniform = min(spec.negatives, step.uniform) / step.uniform
    dim, reranks = spec.embedding_dim, spec.rank_blend > 0 or not shape.has_items
    encoder, sequence, settings = ENCODERS[spec.encoder], spec.reads_order, dict(spec.settings)
    # A sequence encoder reads the items' own vectors, and has none for the past.
    history = spec.history_weight > 0 and not sequence
    groups, off = n_groups(spec, shape), off_rows(spec, shape)
    switched_off = [shape.row_blocks[index] for index in off]
    step, projection, macs = _without(step, off), projection_entries(spec, shape), forward_macs(spec, shape)
    n_rows = shape.n_rows - sum(block.size for block in switched_off)
    # Target attention reads rows of histories in the tables of the tasks, too.
    own_rows = catalogue.history_rows * (groups if spec.attends else history)
    table_rows = (n_rows - catalogue.history_rows) * groups + own_rows
    n_dense = n_dense_parameters(spec, shape) + projection * groups + encoder_entries(spec, shape)
    # Each positive of a past costs a product with the item and its part of the sum.
    attention = 2 * dim * groups * spec.attends
    # The part of the forward pass that a task's loss is differentiated through, and the rest.
    ranked = step.batch * macs + (step.bag_entries * dim + step.items * projection) * groups
    ranked += step.past_entries * attention
    entries = history * step.history_entries + uniform * step.uniform_entries
    retrieved = entries * dim + uniform * step.uniform_items * projection
    rows = step.rows * groups + history * step.history_rows + uniform * step.uniform_rows
    if spec.attends:
        rows += (groups - 1) * step.past_rows + (step.joint_rows - step.history_rows if history else step.past_rows)
    by_task = BALANCINGS[spec.balancing].needs_gradients
    smoothing = smoothing_macs(spec, catalogue.positives)
    through = smoothing if spec.trains_graph else 0
    if through and catalogue.positives is not None:  # every node is updated in every step
        rows += n_nodes(catalogue.positives) - step.nodes - uniform * step.uniform_nodes
    fitted = _item_item_counts(spec, catalogue.positives)
    side = "user" if shape.has_items else "context"
    user_fields = catalogue.user_fields - sum(block.n_columns for block in switched_off if block.side == side)
    optimizer, average = OPTIMIZERS[spec.optimizer], AVERAGE_FLOPS if spec.ema else 0
    # Item-item scores alone, without a ranker, need no vector of the user.
    by_vector = spec.uses_vectors
    user_entries = user_fields * (groups if reranks else spec.user_vector and by_vector)
    user_entries += (history and by_vector) * catalogue.history_length
    encoded = encoder.macs(settings, dim, positions=step.read, pairs=step.pairs)
    past = catalogue.history_length
    to_query = encoder.macs(settings, dim, positions=past, pairs=past**2) if sequence and by_vector else 0
    return ModelCounts(
        # Sizes of a step are means, and a count of operations is an integer.
        forward_macs=round(ranked + retrieved + encoded) + retrieval_macs(spec, step),
        dense_updates=n_dense,
        row_updates=round(rows * dim),
        # Forward and back; balancing by gradients sends that of each task back.
        extra_macs=(2 + by_task * shape.n_tasks) * through
        + (balancing_macs(spec, shape, step, round(ranked)) if by_task else 0),
        steps=steps if spec.is_trained else 0,
        flops_per_update=optimizer.flops_per_update + average,
        flops_per_row_update=(optimizer.flops_per_row_update or optimizer.flops_per_update) + 2 * average,
        user_macs=user_entries * dim + round(to_query),
        n_items=catalogue.n_items,
        width=dim if spec.uses_vectors else 0,
        candidates=catalogue.candidates if reranks else 0,
        ranker_macs=macs + attention * catalogue.history_length,
        n_parameters=n_dense + table_rows * dim if spec.is_trained else 0,
        bytes_per_parameter=bytes_per_parameter,
        # The means that replace the trained rows.
        **{**fitted, "fit_flops": fitted.get("fit_flops", 0) + FLOPS_PER_MAC * smoothing},
    )


def smoothing_macs(spec: ModelSpec, positives: Positives | None) -> int:
    """Multiply-adds of the graph layers of all nodes and of their mean: ``L (2 nnz + N) E``, 0 without layers."""
    if not spec.graph_layers or not spec.is_trained or positives is None:
        return 0
    return spec.graph_layers * (2 * len(positives.history.indices) + n_nodes(positives)) * spec.embedding_dim


def n_nodes(positives: Positives) -> int:
    """Users and items with a positive."""
    return positives.n_active_users + positives.n_active_items


def encoder_entries(spec: ModelSpec, shape: InputShape) -> int:
    """Parameters of the encoder of the past."""
    return sum(tensor.n_entries for tensor in encoder_tensors([spec], shape))


def _item_item_counts(spec: ModelSpec, positives: Positives | None) -> dict[str, int]:
    """What the item-item scores of a member add to its counts; each at least 1 where there are any."""
    if not spec.uses_item_item or positives is None:
        return {}
    kind, settings = ITEM_ITEMS[spec.item_item], with_defaults(spec.item_item_settings)
    n_fitted, fitted_bytes = kind.stored_values(positives, settings)
    counts = {
        "fit_flops": kind.fit_flops(positives, settings),
        "item_item_macs": kind.request_macs(positives, settings, positives.mean_length),
        "n_fitted": n_fitted,
        "fitted_bytes": fitted_bytes,
    }
    return {name: max(count, 1) for name, count in counts.items()}  # costs are compared by their logarithms


def projection_entries(spec: ModelSpec, shape: InputShape) -> int:
    """Parameters of a projection of the content, and multiply-adds per item.

    Parts that are off have none, and a part with an adapter of rank r has ``r (D' + E)`` instead of ``D' E``.
    """
    dim, rest = spec.embedding_dim, sum(part.size for part in untrained_content(spec, shape))
    thin = sum(rank * (part.size + dim) for part, rank in adapted_content(spec, shape))
    return (shape.n_content - rest) * dim + thin


def _without(step: StepWork, off: Sequence[int]) -> StepWork:
    """Sizes of a step without the blocks that are switched off."""
    if not off:
        return step
    less = {
        total: getattr(step, total) - sum(getattr(step, by_block)[index] for index in off)
        for total, by_block in (
            ("rows", "block_rows"),
            ("bag_entries", "block_entries"),
            ("uniform_rows", "block_uniform_rows"),
            ("uniform_entries", "block_uniform_entries"),
        )
    }
    return replace(step, **less)


def retrieval_macs(spec: ModelSpec, step: StepWork) -> int:
    """Multiply-adds of the retrieval scores: ``positives * (negatives + own) * dim``.

    With all of the batch as negatives the score matrix contains the own score.
    """
    drawn = step.positives if spec.negative_source == "batch" else step.uniform
    negatives = min(spec.negatives, drawn)
    is_inside = spec.negative_source == "batch" and negatives == step.positives
    return step.positives * (negatives + (not is_inside)) * spec.embedding_dim


def balancing_macs(spec: ModelSpec, shape: InputShape, step: StepWork, ranked: int) -> int:
    """Multiply-adds per step of balancing by gradients of T tasks on n shared parameters.

    T - 1 further backward passes of the ranker, the Gram matrix ``T^2 n`` and the weighted sum of gradients ``T n``.

    Args:
        spec: of the member.
        shape: sizes fixed by the data.
        step: sizes of a step.
        ranked: multiply-adds of a forward pass of the ranker, its embeddings included.
    """
    n_tasks, dim = shape.n_tasks, spec.embedding_dim
    tensors = build_network([spec], shape).tensors
    shared = sum(tensor.task.count(SHARED) * prod(tensor.shape) for tensor in tensors)
    shared += round(step.rows * dim + projection_entries(spec, shape))
    return 2 * (n_tasks - 1) * ranked + (n_tasks**2 + n_tasks) * shared


def cost_bounds(
    space: SearchSpace, cost_of: Callable[[ModelSpec], Mapping[str, float]]
) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of every counted cost in a space.

    For each mechanism, coordinate descent over the genes finds the extreme: a gene value that makes a spec of a
    mechanism more expensive never makes another spec of it cheaper. A block of the input always costs something, so
    all blocks are off in the cheapest spec and on in the most expensive spec.

    Args:
        space: with the genes of `evorec.models.spec.default_space`, fixed or not.
        cost_of: counted costs of a spec, > 0, the same names for all.
    """
    known: dict[ModelSpec, Mapping[str, float]] = {}
    seen: dict[tuple[Value, ...], ModelSpec] = {}

    def cost(genes: Mapping[str, Value]) -> Mapping[str, float]:
        values = tuple(genes.values())
        if values not in seen:
            seen[values] = ModelSpec.from_genes(space.spec_of(genes))
        if seen[values] not in known:
            known[seen[values]] = cost_of(seen[values])
        return known[seen[values]]

    start = {name: space.gene(name).default for name in space.names}
    options = {name: _options(space.gene(name)) for name in space.names}
    mechanisms = options.pop("mechanism", ())  # none without a ranker
    starts = [{**start, "mechanism": mechanism} for mechanism in mechanisms] or [start]
    # Item-item scores alone, without a ranker, train nothing: two genes from the default, which descent does not find.
    kinds = options.get("item_item", ())
    starts += [{**starts[0], "item_item": kind, "item_item_blend": False} for kind in kinds if kind != "none"]
    switches = {name: options.pop(name) for name in space.names if name.startswith(USE)}
    for sign, name, genes in [(s, n, g) for s in (1, -1) for n in cost(start) for g in starts]:
        blocks = {block: values[0] if sign > 0 else values[-1] for block, values in switches.items()}
        score = lambda values, sign=sign, name=name: sign * cost(values)[name]  # noqa: E731
        _improve({**genes, **blocks}, options, score)
    return {n: (min(c[n] for c in known.values()), max(c[n] for c in known.values())) for n in cost(start)}


def _improve(
    genes: dict[str, Value], options: Mapping[str, Sequence[Value]], score: Callable[[Mapping[str, Value]], float]
) -> None:
    """Coordinate descent: moves each gene to its value of lowest score, until the score no longer falls."""
    best, before = score(genes), float("inf")
    while best < before:
        before = best
        for name, values in options.items():
            if len(values) > 1:
                genes[name] = min(values, key=lambda value, name=name: score({**genes, name: value}))  # type: ignore[misc]
        best = score(genes)


def _options(gene: Gene) -> tuple[Value, ...]:
    """Values at which a gene may be cheapest or most expensive; other real genes change no count."""
    if isinstance(gene, Boolean):
        return (False, True)
    if isinstance(gene, Categorical):
        return gene.options
    if isinstance(gene, Integer):
        low, high = (int(bound[0]) for bound in gene.bounds)
        columns = range(low, high + 1) if high - low < MOST_TRIED else (low, high)
        return tuple(gene.decode(np.array([float(column)])) for column in columns)
    if isinstance(gene, Real) and gene.name in FREE_AT_ZERO:
        return (gene.low, gene.high)
    return (gene.default,)
