"""Projections of a part of the content that are products of two thin matrices, as low-rank adapters are.

The projections of all parts of a member form a matrix ``[D, E]``, which training and measuring read. The rows of an
adapted part are not trained: before each step they are set to the product of the two factors, and after it their
gradient is passed back to the factors. Source: Hu et al. 2022 (LoRA), here without a frozen matrix that is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from evorec.models.blocks import InputBlock
from evorec.models.layers import product
from evorec.models.population import KernelGroup, Population, TensorSlot, adapter_name, adapter_owners


@final
@dataclass(frozen=True)
class Adapter:
    """The members of a kernel group that have an adapter of the same rank for the same part of the content.

    Attributes:
        part: of the content.
        owners: their indices in the kernel group, ``(n,)``.
        down, up: the factors, ``[n * G, D', r]`` and ``[n * G, r, E]``.
        shared, own: the projections of the kernel group, of the first table ``[P, D, E]`` and of the tasks' tables
            ``[P * T, D, E]`` or ``None``.
    """

    part: InputBlock
    owners: Tensor
    down: TensorSlot
    up: TensorSlot
    shared: TensorSlot
    own: TensorSlot | None

    def put_product(self, flat: Tensor) -> None:
        """Writes the products into the projections."""
        down, up = self.down.view(flat), self.up.view(flat)
        out = flat.new_empty(len(down), down.shape[1], up.shape[2])
        product(down, up, out)
        by_group = out.view(len(self.owners), -1, *out.shape[1:])
        rows = self._rows
        self.shared.view(flat)[self.owners, rows] = by_group[:, 0]
        if self.own is not None:
            of_tasks = self._of_tasks(self.own.view(flat))
            # An index and slices: the result is [n, T, D', E], in the order of the axes.
            of_tasks[self.owners, :, rows] = by_group[:, 1:]

    def pass_back(self, flat: Tensor, grad: Tensor) -> None:
        """Writes the gradients of the factors into `grad`, computed from those of the projections in it."""
        groups = [self.shared.view(grad)[self.owners, self._rows][:, None]]
        if self.own is not None:
            groups.append(self._of_tasks(self.own.view(grad))[self.owners, :, self._rows])
        whole = torch.cat(groups, 1).flatten(0, 1)
        to_down, to_up = factors_back(whole, self.down.view(flat), self.up.view(flat))
        self.down.view(grad).copy_(to_down)
        self.up.view(grad).copy_(to_up)

    def shared_back(self, flat: Tensor, to_projections: Tensor) -> list[Tensor]:
        """Gradients of the factors of the first table, ``[n, D', r]`` and ``[n, r, E]``.

        Args:
            flat: buffer of the parameters.
            to_projections: of the first table, ``[P, D, E]``.
        """
        # The groups of a member are neighbours, that of the first table before those of the tasks.
        n_groups = self.down.tensor.n_slots // len(self.owners)
        down, up = self.down.view(flat)[::n_groups], self.up.view(flat)[::n_groups]
        return list(factors_back(to_projections[self.owners, self._rows], down, up))

    @property
    def _rows(self) -> slice:
        return slice(self.part.first, self.part.first + self.part.size)

    def _of_tasks(self, projections: Tensor) -> Tensor:
        """``[P, T, D, E]``."""
        n_members = self.shared.tensor.n_slots
        return projections.view(n_members, -1, *projections.shape[1:])


def factors_back(grad: Tensor, down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the factors ``[S, D, r]`` and ``[S, r, E]`` of a product from its own, ``[S, D, E]``."""
    # Equal strides in every stack: the library may choose its kernel by them.
    grad, down, up = grad.contiguous(), down.contiguous(), up.contiguous()
    to_down, to_up = torch.empty_like(down), torch.empty_like(up)
    product(grad, up.transpose(1, 2), to_down)
    product(down.transpose(1, 2), grad, to_up)
    return to_down, to_up


def adapters_of(population: Population) -> list[Adapter]:
    """All adapters of a population."""
    return [adapter for group in population.kernel_groups for adapter in group_adapters(group)]


def group_adapters(group: KernelGroup) -> list[Adapter]:
    """The adapters of a kernel group."""
    slots = {slot.tensor.name: slot for slot in group.tensor_slots}
    device = group.flat.device
    return [
        Adapter(
            part,
            torch.tensor(members, device=device),
            slots[adapter_name(part, rank, "down")],
            slots[adapter_name(part, rank, "up")],
            slots["content.weight"],
            slots.get("task_content.weight"),
        )
        for (part, rank), members in adapter_owners(group.specs, group.shape)
    ]
