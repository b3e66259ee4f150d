"""The ranker of a member on the candidates of many users; terms that all pairs of a user share are computed once.

For a user, the first level is linear in the item alone: with ranker input ``[u, v, u * v, c, s_u, s_v]``,
``x @ W = v @ (W_v + u * W_uv) + s_v @ W_s + (u @ W_u + c @ W_c + s_u @ W_su)``. So each user gets first-level weights
of ``E + n_item_statistics + 1`` inputs instead of ``4 E + n_dense``, and the mechanism runs as if users were members.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from evorec.models.ensemble import mean_prediction
from evorec.models.forward import ForwardPass
from evorec.models.mechanism import HEAD_SCALE, Network, build_network
from evorec.models.population import Bag, KernelGroup
from evorec.models.slots import SHARED
from evorec.models.target_attention import attended_lists

PAIRS_AT_ONCE = 3200
"""User-item pairs whose activations are held at a time: they fit in the cache of a core."""


@final
@dataclass(frozen=True)
class RankerInputs:
    """Vectors and statistics of a single member.

    Attributes:
        users: vectors ``[G, U, E]``.
        items: vectors ``[G, I, E]``.
        context: vector of the usual context ``[G, E]``.
        user_statistics: ``[U, su]``.
        item_statistics: ``[I, si]``.
        history: bags of the users' past positives; read with target attention only.
    """

    users: Tensor
    items: Tensor
    context: Tensor
    user_statistics: Tensor
    item_statistics: Tensor
    history: Bag | None = None


@final
@dataclass(frozen=True)
class _FoldedMatrix:
    """A first-level matrix, ``[S, ...]`` with S slots.

    Attributes:
        item, product: rows of the item vector and of the product, ``[S, E, out]``.
        statistics: rows of the item's statistics, and of the attended past if the member has it, ``[S, si, out]``.
        constant: sum of the terms of user, context and bias, ``[U, S, out]``.
        users: the vector that each slot reads, ``[U, S, E]``.
    """

    item: Tensor
    product: Tensor
    statistics: Tensor
    constant: Tensor
    users: Tensor

    def of(self, rows: slice) -> Tensor:
        """Weights of some users, ``[n * S, E + si + 1, out]``."""
        users, constant = self.users[rows], self.constant[rows]
        n, slots, dim = users.shape
        out = users.new_empty(n, slots, dim + self.statistics.shape[1] + 1, constant.shape[2])
        # W_v + u * W_uv, written straight into its place.
        torch.addcmul(self.item, self.product, users[..., None], out=out[:, :, :dim])
        out[:, :, dim:-1] = self.statistics
        out[:, :, -1] = constant
        return out.flatten(0, 1)


def ranker_scores(block: KernelGroup, index: int, inputs: RankerInputs, ids: Tensor) -> Tensor:
    """``rank_blend * sum_t ±w_t logit_t`` of the candidates of U >= 2 users; minus where a task's high values are bad.

    Args:
        block: of the member.
        index: its index there.
        inputs: vectors and statistics.
        ids: candidates, int64 ``[U, C]``.
    Returns:
        ``[U, C]``; differs from `KernelGroup.rank_logits` by rounding only, independent of the stack's other members.
    """
    spec = block.specs[index]
    weights = spec.rank_blend * inputs.items.new_tensor(block.shape.score_weights(spec.task_weights))[:, None]
    out = inputs.items.new_empty(ids.shape)
    for rows, columns, logits in _logit_tiles(block, index, inputs, ids):
        out[rows, columns] = (logits * weights).sum(1)
    return out


def ranker_logits(block: KernelGroup, index: int, inputs: RankerInputs, ids: Tensor) -> Tensor:
    """Logits of each task for the candidates of U >= 2 users, ``[T, U, C]``; `ranker_scores` is their weighted sum."""
    out = inputs.items.new_empty(block.shape.n_tasks, *ids.shape)
    for rows, columns, logits in _logit_tiles(block, index, inputs, ids):
        out[:, rows, columns] = logits.transpose(0, 1)
    return out


def _logit_tiles(
    block: KernelGroup, index: int, inputs: RankerInputs, ids: Tensor
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Users, candidates and their logits ``[n, T, m]``, `PAIRS_AT_ONCE` pairs at a time."""
    own = {p.tensor.name: block.trained[p.tensor.name][p.slots_of(index)] for p in block.tensor_slots}
    n, scale = block.network.n_heads, own.pop(HEAD_SCALE, None)
    if scale is None:
        yield from _head_tiles(block, index, own, None, inputs, ids, {})
        return
    heads, pasts = [], dict[tuple[int, int], Tensor]()
    for head in range(n):  # its scales go into the matrices of the first level, so it is a ranker like any other
        of_head = {name: tensor[head::n] if name.startswith("head.") else tensor for name, tensor in own.items()}
        heads.append(_head_tiles(block, index, of_head, scale[:, head], inputs, ids, pasts))
    for tiles in zip(*heads, strict=True):
        rows, columns, _ = tiles[0]
        logits = torch.stack([logits for _, _, logits in tiles], 2)
        yield rows, columns, mean_prediction(logits.flatten(2, 3), n, block.shape.numbers)


def _head_tiles(
    block: KernelGroup,
    index: int,
    own: Mapping[str, Tensor],
    scale: Tensor | None,
    inputs: RankerInputs,
    ids: Tensor,
    pasts: dict[tuple[int, int], Tensor],
) -> Iterator[tuple[slice, slice, Tensor]]:
    """`_logit_tiles` of one head.

    Args:
        block, index, inputs, ids: see `ranker_scores`.
        own: parameters of the member, of this head alone.
        scale: of the ranker's input, ``[G, n_in]``; ``None`` = 1.
        pasts: the attended pasts of the current tile, which all heads share.
    """
    n_users, n_candidates = ids.shape
    at_once = min(n_users, max(2, PAIRS_AT_ONCE // n_candidates))  # two: products with one row round differently
    columns = max(1, PAIRS_AT_ONCE // at_once)
    network = build_network([replace(block.specs[index], dropout=0.0, ensemble_heads=1)] * at_once, block.shape)
    folded = _fold(network, own, scale, inputs)
    dense = {name: weight.repeat(at_once, *[1] * (weight.dim() - 1)) for name, weight in own.items()}
    # The folded matrices hold the bias; a second time would count it twice.
    dense |= {bias: torch.zeros_like(dense[bias]) for bias in map(_bias, folded) if bias in dense}
    groups, n_items, _ = inputs.items.shape
    statistics = inputs.item_statistics.expand(groups, -1, -1)
    # The column of ones meets the last row of a folded matrix, the user's constant.
    items = torch.cat([inputs.items, statistics, statistics.new_ones(groups, n_items, 1)], 2).flatten(0, 1)
    # The items of group g start at row g * I.
    shift, rates = torch.arange(groups, device=ids.device)[:, None] * n_items, (0.0,) * at_once
    for start in range(0, n_users, at_once):
        start = min(
            start, n_users - at_once
        )  # the last users may be computed twice: a smaller batch would round differently
        rows = slice(start, start + at_once)
        dense |= {name: weight.of(rows) for name, weight in folded.items()}
        for first in range(0, n_candidates, columns):
            some = slice(first, first + columns)
            cells = ids[rows, None, some] + shift
            x = items.index_select(0, cells.flatten()).view(*cells.shape, items.shape[1])
            if block.attends:
                if (start, first) not in pasts:
                    pasts.clear()
                    pasts[start, first] = _pasts(block, index, inputs, ids[rows, some], rows)
                # Before the column of ones, as in the folded matrices.
                x = torch.cat([x[..., :-1], pasts[start, first], x[..., -1:]], 3)
            yield rows, some, network.logits(ForwardPass(dense, rates), x)


def _pasts(block: KernelGroup, index: int, inputs: RankerInputs, ids: Tensor, rows: slice) -> Tensor:
    """Pasts of n users as seen by their candidates ``[n, m]``, ``[n, G, m, E]``: a product for each user."""
    assert inputs.history is not None, "a ranker with target attention reads the users' pasts"
    history = inputs.history.select(torch.arange(rows.start, rows.stop, device=ids.device))
    past = block.past_vectors(history.rows, slice(index, index + 1))[0]  # [G, n, H, E]
    candidates = inputs.items[:, ids]  # [G, n, m, E]
    kind = block.specs[index].target_attention
    return attended_lists(candidates, past, history.weights != 0, kind).transpose(0, 1)


def _fold(
    network: Network, own: Mapping[str, Tensor], scale: Tensor | None, inputs: RankerInputs
) -> dict[str, _FoldedMatrix]:
    """The matrices that read the ranker's input: those whose height grows with its width."""
    shape = replace(network.shape, n_dense=network.shape.n_dense + 1)
    higher = {tensor.name: tensor.shape for tensor in build_network(network.specs, shape).tensors}
    out = {}
    for tensor in network.tensors:
        if higher[tensor.name] == tensor.shape:
            continue
        tasks = [key[1] + SHARED for key in tensor.key[: len(own[tensor.name])]]  # of `evorec.models.slots.role`
        groups = [network.group(0, task) for task in tasks]
        dim, n_user, n_item = (
            part.shape[-1] for part in (inputs.users, inputs.user_statistics, inputs.item_statistics)
        )
        whole = own[tensor.name] if scale is None else own[tensor.name] * scale[groups][:, :, None]
        n_past = dim * network.specs[0].attends
        parts = torch.split(whole, [dim] * 4 + [n_past, n_user, n_item], 1)
        user, item, product, context, of_past, of_user, of_item = parts
        # All terms without the item, for all users at once.
        constant = inputs.users[groups] @ user + inputs.user_statistics @ of_user
        constant += inputs.context[groups][:, None] @ context
        if (bias := _bias(tensor.name)) in own:
            constant += own[bias]
        users = inputs.users[groups].transpose(0, 1).contiguous()
        out[tensor.name] = _FoldedMatrix(
            item, product, torch.cat([of_item, of_past], 1), constant.transpose(0, 1).contiguous(), users
        )
    return out


def _bias(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"
