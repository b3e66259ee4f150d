"""P recommenders of one shape as one tensor program.

Path of a row: user, item and context are bags of rows of one embedding table ``[R, P, E]`` (the item's content vector
adds a projection); their vectors, the product of user and item, and the row's dense statistics enter L ragged layers
(`layers`) and end in one logit per task. The same user and item vectors give the retrieval score by dot product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evorec.errors import ConfigError
from evorec.models.layers import (
    SHARED,
    Uniforms,
    draw_columns,
    dropout,
    head_slots,
    select_slots,
    slot_layer,
    slot_layers,
    slot_linear,
)
from evorec.models.spec import ModelSpec

INIT_SCALE = 0.05
"""Standard deviation of a fresh embedding entry."""
NORM_FLOOR = 1e-6
"""Shortest vector that is scaled to length 1; a shorter one stays short."""
INPUT = -1
"""The layer number of the dropout on the ranker's input."""


@final
@dataclass(frozen=True)
class InputShape:
    """Sizes that the data set fixes.

    Attributes:
        n_rows: R, rows of the embedding table.
        n_content: D of the item content vectors, 0 = none.
        n_dense: dense statistics per row.
        n_tasks: T.
        n_layers: L.
    """

    n_rows: int
    n_content: int
    n_dense: int
    n_tasks: int
    n_layers: int

    def layer_inputs(self, embedding_dim: int, width: int) -> list[int]:
        """Inputs of each layer: user, item, product and context vectors and the statistics, then the width."""
        return [4 * embedding_dim + self.n_dense, *([width] * (self.n_layers - 1))]


@final
@dataclass(frozen=True)
class Bag:
    """Weighted bags of embedding rows, one per entity.

    Attributes:
        rows: ``[m, F]`` row numbers.
        weights: ``[m, F]``; 0 for padding.
        content: ``[m, D]`` content vectors or ``None``.
    """

    rows: Tensor
    weights: Tensor
    content: Tensor | None = None


@final
class Population:
    """Parameters of P >= 2 members of equal embedding dimension and width.

    Args:
        specs: one per member; a lone member is padded to two by the caller, because kernels for a single matrix
            round differently.
        shape: sizes fixed by the data.
        table: ``[R, P, E]``.
        dense: name -> ``[S, ...]`` (see `dense_names`).
    """

    def __init__(
        self, specs: Sequence[ModelSpec], shape: InputShape, table: Tensor, dense: Mapping[str, Tensor]
    ) -> None:
        if len(specs) < 2 or len({spec.shape for spec in specs}) != 1:
            raise ConfigError(f"a population needs two or more specs of one shape, got {[s.shape for s in specs]}")
        self.specs = tuple(specs)
        self.shape = shape
        self.layers = slot_layers([spec.sharing_depth for spec in specs], shape.n_tasks, shape.n_layers)
        self.heads = head_slots(self.layers[-1], len(specs), shape.n_tasks)
        self.table = table
        self.dense = dict(dense)

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=table.dtype, device=table.device)

        rates = column([spec.dropout for spec in specs])
        self._input_rate = rates[:, None, None]
        self._rates = [rates[list(layer.member)][:, None, None] for layer in self.layers]
        self._history_weight = column([spec.history_weight for spec in specs])[:, None, None]
        self._temperature = column([spec.temperature for spec in specs])[:, None, None]
        columns = [slot * shape.n_tasks + i % shape.n_tasks for i, slot in enumerate(self.heads)]
        self._head_columns = torch.tensor(columns, device=table.device)

    @property
    def size(self) -> int:
        """Number of members P."""
        return len(self.specs)

    def owners(self) -> dict[str, tuple[int, ...]]:
        """Dense tensor name -> owner of each slot."""
        out = {f"layer{i}.{part}": layer.member for i, layer in enumerate(self.layers) for part in ("weight", "bias")}
        out |= {f"head.{part}": self.layers[-1].member for part in ("weight", "bias")}
        if self.shape.n_content:
            out["content.weight"] = tuple(range(self.size))
        return out

    def entity_vectors(self, table: Tensor, bag: Bag) -> Tensor:
        """Vectors of users, items or contexts.

        Args:
            table: ``[n, P, E]`` embedding rows that `bag.rows` point into.
        Returns:
            ``[P, m, E]``.
        """
        n, members, dim = table.shape
        if bag.rows.shape[1] == 0:  # data without context features: embedding_bag refuses bags without a column
            return table.new_zeros(members, len(bag.rows), dim)
        flat = F.embedding_bag(bag.rows, table.reshape(n, members * dim), per_sample_weights=bag.weights, mode="sum")
        out = flat.view(-1, members, dim).transpose(0, 1)
        if bag.content is None:
            return out.contiguous()
        return torch.baddbmm(out, bag.content.expand(members, -1, -1), self.dense["content.weight"])

    def rank_logits(
        self, users: Tensor, items: Tensor, contexts: Tensor, statistics: Tensor, uniforms: Uniforms | None = None
    ) -> Tensor:
        """Task logits of B rows.

        Args:
            users: ``[P, B, E]``.
            items: ``[P, B, E]``.
            contexts: ``[P, B, E]``.
            statistics: ``[B, n_dense]``.
            uniforms: dropout draws; ``None`` when measuring.
        Returns:
            ``[P, T, B]``.
        """
        batch = users.shape[1]
        x = torch.cat([users, items, users * items, contexts, statistics.expand(self.size, -1, -1)], 2)
        if uniforms is not None:
            x = dropout(x, self._input_rate, uniforms(INPUT, batch, x.shape[2]))
        for level, layer in enumerate(self.layers):
            weight = self.dense[f"layer{level}.weight"]
            uniform = None if uniforms is None else uniforms(level, batch, weight.shape[2])
            bias, rate = self.dense[f"layer{level}.bias"], self._rates[level]
            x = slot_layer(select_slots(x, layer.source), weight, bias, rate, uniform)
        logits = slot_linear(x, self.dense["head.weight"], self.dense["head.bias"])
        columns = logits.transpose(1, 2).reshape(-1, batch)
        return columns.index_select(0, self._head_columns).view(self.size, self.shape.n_tasks, batch)

    def retrieval_users(self, users: Tensor, history: Tensor) -> Tensor:
        """Unit user vectors of the retrieval head, ``[P, m, E]``.

        Args:
            users: ``[P, m, E]``.
            history: ``[P, m, E]``, mean-like sums of the user's past positives (`evorec.data.dataset.Dataset`).
        """
        return F.normalize(users + self._history_weight * history, dim=2, eps=NORM_FLOOR)

    def retrieval_items(self, items: Tensor) -> Tensor:
        """Unit item vectors of the retrieval head divided by the temperature, ``[P, m, E]``."""
        return F.normalize(items, dim=2, eps=NORM_FLOOR) / self._temperature

    def member_arrays(self, member: int) -> dict[str, np.ndarray]:
        """One member's own parameters: ``table [R, E]`` and its slots of every dense tensor."""
        out = {"table": self.table[:, member].cpu().numpy().copy()}
        for name, owners in self.owners().items():
            slots = [slot for slot, owner in enumerate(owners) if owner == member]
            out[name] = self.dense[name][slots].detach().cpu().numpy().copy()
        return out


def fresh_population(
    specs: Sequence[ModelSpec], shape: InputShape, *, seed: int, device: torch.device, dtype: torch.dtype
) -> Population:
    """Population with initial parameters: a member's are the same in any company and any slot.

    Streams are keyed by (seed, purpose, layer, task, column): a shared layer draws one matrix, each tower its own.
    """
    dim, width = specs[0].shape
    layers = slot_layers([spec.sharing_depth for spec in specs], shape.n_tasks, shape.n_layers)

    def stack(draws: Sequence[np.ndarray], scale: float) -> Tensor:
        return torch.tensor(np.stack(draws) * scale, dtype=dtype, device=device)

    dense: dict[str, Tensor] = {}
    for level, (layer, n_in) in enumerate(zip(layers, shape.layer_inputs(dim, width), strict=True)):
        draws = {task: draw_columns(seed, "init", (level, task - SHARED), n_in, width) for task in set(layer.task)}
        dense[f"layer{level}.weight"] = stack([draws[task] for task in layer.task], (2 / n_in) ** 0.5)
        dense[f"layer{level}.bias"] = torch.zeros(layer.n_slots, 1, width, dtype=dtype, device=device)
    head = draw_columns(seed, "init head", (), width, shape.n_tasks)
    dense["head.weight"] = stack([head] * layers[-1].n_slots, (1 / width) ** 0.5)
    dense["head.bias"] = torch.zeros(layers[-1].n_slots, 1, shape.n_tasks, dtype=dtype, device=device)
    if shape.n_content:
        content = draw_columns(seed, "init content", (), shape.n_content, dim)
        dense["content.weight"] = stack([content] * len(specs), INIT_SCALE)
    table = draw_columns(seed, "init table", (), shape.n_rows, dim) * INIT_SCALE
    table[0] = 0.0  # the padding row
    rows = torch.tensor(table, dtype=dtype, device=device)[:, None, :].repeat(1, len(specs), 1)
    return Population(specs, shape, rows, dense)


def stack_members(
    specs: Sequence[ModelSpec], shape: InputShape, members: Sequence[Mapping[str, np.ndarray]], *, device: torch.device
) -> Population:
    """Population from stored members (`Population.member_arrays`).

    Raises:
        ConfigError: an array is missing or has another shape than the spec says.
    """
    for member, (spec, arrays) in enumerate(zip(specs, members, strict=True)):
        _check_shapes(member, arrays, member_shapes(spec, shape))
    table = np.stack([arrays["table"] for arrays in members], 1)
    names = [name for name in members[0] if name != "table"]
    dense = {name: torch.from_numpy(np.concatenate([arrays[name] for arrays in members])).to(device) for name in names}
    return Population(specs, shape, torch.from_numpy(table).to(device), dense)


def member_shapes(spec: ModelSpec, shape: InputShape) -> dict[str, tuple[int, ...]]:
    """Array name -> shape of one member's own parameters (`Population.member_arrays`)."""
    dim, width = spec.shape
    out: dict[str, tuple[int, ...]] = {"table": (shape.n_rows, dim)}
    slots = 1
    for level, n_in in enumerate(shape.layer_inputs(dim, width)):
        slots = 1 if level < spec.sharing_depth else shape.n_tasks
        out |= {f"layer{level}.weight": (slots, n_in, width), f"layer{level}.bias": (slots, 1, width)}
    out |= {"head.weight": (slots, width, shape.n_tasks), "head.bias": (slots, 1, shape.n_tasks)}
    if shape.n_content:
        out["content.weight"] = (1, shape.n_content, dim)
    return out


def _check_shapes(member: int, arrays: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    found = {name: array.shape for name, array in arrays.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ConfigError(
                f"stored array {name} of member {member}: expected shape {expected.get(name, 'nothing')}, "
                f"found {found.get(name, 'nothing')}; the weights belong to another spec or data set"
            )
