"""Encoders of the past in a training step: forward, and back to the items and the encoders' parameters.

On a CPU every member has products of its own, so its result is independent of the other members, bitwise. On a GPU
members of equal architecture run together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from evorec.models.encoder import ENCODERS, PREFIX, EncoderRun, own_name
from evorec.models.layers import DROPOUT_LEVELS
from evorec.models.population import KernelGroup, TensorSlot
from evorec.models.slots import Drop
from evorec.models.spec import ModelSpec
from evorec.training.plan import StepSequences

ENCODER = 1000
"""Level of the dropout of an encoder's layer 0 (`evorec.models.slots.Drop`), above those of all rankers."""


@final
class EncoderGroup:
    """Members of a kernel group with the same encoder.

    Args:
        group: the kernel group.
        members: G indices in it; their encoders have the same architecture.
        first: index of the kernel group's first member in the `GroupStep`.
    """

    def __init__(self, group: KernelGroup, members: Sequence[int], first: int) -> None:
        self._flat, spec = group.flat, group.specs[members[0]]
        self._encoder, self._settings = ENCODERS[spec.encoder], dict(spec.settings)
        self.at = [first + member for member in members]
        self._slots: list[tuple[str, TensorSlot, slice | Tensor]] = []
        for slot in group.tensor_slots:
            owners = [index for index, owner in enumerate(slot.tensor.member) if owner in members]
            if slot.tensor.name.startswith(f"{PREFIX}{spec.encoder}.") and owners:
                # A slice is a view; an index copies.
                index: slice | Tensor = torch.tensor(owners, device=self._flat.device)
                if owners == list(range(owners[0], owners[-1] + 1)):
                    index = slice(owners[0], owners[-1] + 1)
                self._slots.append((own_name(slot.tensor.name), slot, index))
        rates = [dict[str, Any](group.specs[member].settings).get("encoder_dropout", 0.0) for member in members]
        below = [round(rate * DROPOUT_LEVELS) for rate in rates]
        like = self._flat
        self._below = torch.tensor(below, device=like.device)[:, None, None] if any(below) else None
        self._scale = like.new_tensor([1 / (1 - rate) for rate in rates])[:, None, None]

    def run(self, found: StepSequences, items: Tensor, draws: Drop) -> EncodedPast:
        """States before each positive of the step.

        Args:
            found: the sequences.
            items: vectors of the step's items, ``[mi, P_e, E]``.
            draws: dropout draws of the step.
        """
        read = items[:, self.at].index_select(0, found.item_of).transpose(0, 1).contiguous().requires_grad_()
        leaves = {name: slot.view(self._flat)[at].detach().requires_grad_() for name, slot, at in self._slots}
        drop = None if self._below is None else partial(self._dropped, draws)
        with torch.enable_grad():
            run = EncoderRun(leaves, found.sequences, self._settings, drop)
            states = self._encoder.encode(run, read).index_select(1, found.target_of)
        return EncodedPast(self, states, [read, *leaves.values()], found.item_of)

    def _dropped(self, draws: Drop, layer: int, x: Tensor) -> Tensor:
        assert self._below is not None
        kept = draws(ENCODER + layer, *x.shape[1:]) >= self._below
        return x * (kept * self._scale)

    def put_gradients(self, grads: Sequence[Tensor], grad: Tensor) -> None:
        """Writes the gradients of the parameters into the flat buffer `grad`."""
        for (_, slot, at), part in zip(self._slots, grads, strict=True):
            slot.view(grad)[at] = part


@final
@dataclass(frozen=True)
class EncodedPast:
    """States of an `EncoderGroup` before each positive, ``[G, Br, E]``, and what they were computed from."""

    owner: EncoderGroup
    states: Tensor
    leaves: list[Tensor]
    item_of: Tensor

    def backward(self, to_states: Tensor, to_items: Tensor, grad: Tensor) -> None:
        """Adds the gradient of the items, and sets that of the parameters.

        Args:
            to_states: of all members, ``[Br, P_e, E]``.
            to_items: of the step's items, ``[mi, P_e, E]``.
            grad: flat buffer of the dense parameters.
        """
        own = to_states[:, self.owner.at].transpose(0, 1).contiguous()
        to_read, *to_parameters = torch.autograd.grad([self.states], self.leaves, [own])
        for index, member in enumerate(self.owner.at):
            to_items[:, member].index_add_(0, self.item_of, to_read[index])
        self.owner.put_gradients(to_parameters, grad)


def encoder_groups(groups: Sequence[KernelGroup], *, batched: bool) -> list[EncoderGroup]:
    """The encoders of the members of a `GroupStep`.

    Args:
        groups: its kernel groups, in order.
        batched: whether members of equal architecture share products; else each member has its own.
    """
    out, first = [], 0
    for group in groups:
        together: dict[Any, list[int]] = {}
        for member, spec in enumerate(group.specs):
            together.setdefault(_architecture(spec) if batched else member, []).append(member)
        out += [EncoderGroup(group, members, first) for members in together.values()]
        first += group.size
    return out


def _architecture(spec: ModelSpec) -> tuple[Any, ...]:
    names = ENCODERS[spec.encoder].gene_names
    return (spec.encoder, *(pair for pair in spec.settings if pair[0] in names and pair[0] != "encoder_dropout"))
