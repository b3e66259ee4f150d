"""One training step of a population: from embedding rows to losses, and back to the gradients of all parameters.

Kernel groups of equal embedding dimension form a `GroupStep`, which computes vectors, ranker inputs and retrieval
losses of all their members together. Inside it, each kernel group runs its mechanism; only that part is left to
automatic differentiation.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import final

import torch
from torch import Tensor

from evorec.errors import ConfigError
from evorec.models.balancer import Balancer, Coefs
from evorec.models.devices import runs_ahead
from evorec.models.ensemble import head_losses
from evorec.models.forward import ForwardPass
from evorec.models.inputs import INPUT, RankerInput, RowIndex
from evorec.models.layers import BITS, Dropout, product
from evorec.models.negative_scores import NegativeMask
from evorec.models.population import NORM_FLOOR, KernelGroup, Population, projected
from evorec.models.retrieval import LossGroup, loss_groups, retrieval_loss
from evorec.models.slots import SHARED, Drop
from evorec.models.switches import OffRows, untrained_content
from evorec.models.target_attention import TargetAttention
from evorec.training.adapters import group_adapters
from evorec.training.encoders import EncodedPast, encoder_groups
from evorec.training.id_dropout import IdDropout
from evorec.training.plan import Step
from evorec.training.smoothing import Smoothing

INPUT_BYTES = 24 * 2**20
"""Largest ranker input of a `GroupStep` on a CPU; its gradient takes as much again."""

Decays = Sequence[tuple[slice, float]]
"""Columns of the first table of each member with a `ModelSpec.bag_decay`, and the decay."""


@final
@dataclass(frozen=True)
class Vectors:
    """Weighted sums of the step's embedding rows for all members, or their gradients: ``[m, C]`` for each table.

    Attributes:
        users, items, contexts: of the unique entities, items without their content.
        history: ``[Br, C]`` of the first table.
        past: of the distinct past items of the ranker's rows; empty where the step has none.
    """

    users: tuple[Tensor, ...]
    items: tuple[Tensor, ...]
    contexts: tuple[Tensor, ...]
    history: Tensor
    past: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, step: Step, rows: Sequence[Tensor], decays: Decays = ()) -> Vectors:
        """From the step's rows of each table, ``[n, C]``."""
        bags = (step.users, step.items, step.contexts)
        users, items, contexts = (tuple(bag.of(part) for part in rows) for bag in bags)
        history = step.history.of(rows[0])
        for columns, decay in decays:
            history[:, columns] = step.decayed_history(decay)[0].of(rows[0][:, columns].contiguous())
        at = None if step.pasts is None else step.pasts.rows
        past = () if at is None else tuple(part.index_select(0, at) for part in rows)
        return cls(users, items, contexts, history, past)

    def empty_like(self) -> Vectors:
        """Memory for gradients."""
        users, items, contexts = (
            tuple(torch.empty_like(t) for t in part) for part in (self.users, self.items, self.contexts)
        )
        # Zeros: members without target attention write nothing there.
        past = tuple(torch.zeros_like(part) for part in self.past)
        return Vectors(users, items, contexts, torch.empty_like(self.history), past)

    def to_rows(self, step: Step, decays: Decays = ()) -> list[Tensor]:
        """Gradients of the step's rows of each table from gradients of the sums."""
        out = [step.back.of(torch.cat(parts)) for parts in zip(self.users, self.items, self.contexts, strict=True)]
        past = step.history_back.of(self.history)
        for columns, decay in decays:
            past[:, columns] = step.decayed_history(decay)[1].of(self.history[:, columns].contiguous())
        out[0] += past
        if step.pasts is not None:
            for rows, part in zip(out, self.past, strict=True):
                rows.index_add_(0, step.pasts.rows, part)
        return out


@final
class KernelGroupStep:
    """Losses and gradients of a kernel group, from ranker input to logits and back.

    Args:
        group: its members.
        balancer: of the same members.
        dense: parameters that the layers read, by name; leaves of the graph.
        batched: whether the gradients of all members are multiplied at once; else member by member, so that the bits
            of a member's result are independent of the other members.
    """

    def __init__(self, group: KernelGroup, balancer: Balancer, dense: Mapping[str, Tensor], *, batched: bool) -> None:
        self.group, self._balancer = group, balancer
        # Leaves are views of the flat buffer: what the optimiser writes there is what the next step reads.
        self._dense = {name: dense[name].requires_grad_() for name in (t.name for t in group.network.tensors)}
        self._slots = {tensor_slot.tensor.name: tensor_slot for tensor_slot in group.tensor_slots}
        like = group.flat
        fixed = all(spec.balancing == "fixed" for spec in group.specs)
        self._weights = like.new_tensor([spec.task_weights for spec in group.specs]) if fixed else None
        self._drops = any(group.rates)
        self._adapters = group_adapters(group)
        # A down and an up factor for each adapter, in the order of `Adapter.shared_back`.
        owners = [adapter.owners.tolist() for adapter in self._adapters for _ in ("down", "up")]
        self._shares = _Shares(group, like.device, owners, batched=batched)
        self._off = _Off(group, like) if any(spec.off or spec.ranks for spec in group.specs) else None
        own = [slice(member * group.dim, (member + 1) * group.dim) for member in range(group.size)]
        self._smoothing = None
        if group.specs[0].trains_graph:  # then all of them do
            self._smoothing = Smoothing(list(zip(group.specs, own, strict=True)), dtype=like.dtype, device=like.device)
        self._ids = IdDropout(list(zip(group.specs, own, strict=True)), dtype=like.dtype, device=like.device)

    def run(
        self, x: Tensor, step: Step, number: int, drop: Drop, ranker: RankerInput, members: slice,
        retrieval: Tensor | None, grad: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
        """Losses and gradients of a step.

        Args:
            x: ranker input ``[P_b, G, B, n_in]``, a leaf.
            step: labels.
            number: 1-based.
            drop: dropout draws of the step.
            ranker: computes the gradients of the vectors from that of the input, for all members of the `GroupStep`.
            members: the members of this kernel group among them.
            retrieval: their retrieval losses times the weight, ``[P_b]``, for the balancing; ``None`` = no items.
            grad: flat buffer that takes the gradients of the dense parameters.
        Returns:
            Weighted loss of each member ``[P_b]``, its gradient ``[P_b, G, B, n_in]`` by the input, and the factor of
            each member's retrieval loss ``[P_b, 1]``, ``None`` = 1.
        """
        group, by_gradient = self.group, self._balancer.needs_gradients
        x.requires_grad_()
        with torch.enable_grad():
            run = ForwardPass(self._dense, group.rates, drop if self._drops else None, by_gradient, step.condition)
            logits = group.network.logits(run, x)
            extra = group.network.extra_loss(logits)
        # The graph ends at the logits: the losses write their gradients themselves.
        losses, to_logits = head_losses(logits.detach(), step.targets, group.network.n_heads)
        leaves = [x, *self._dense.values()]
        if by_gradient:
            coefs, grads = self._balanced(
                step, number, losses, logits, to_logits, extra, leaves, ranker, members, retrieval
            )
        else:
            if self._weights is not None:
                coefs = Coefs(self._weights, self._weights)
            else:
                coefs = self._balancer.coefficients(
                    number, losses, step.has_label, retrieval=retrieval, condition=step.condition
                )
            # A backward pass is linear in its seed, so the coefficients go there: a single pass for all tasks.
            grads = _gradients(logits, to_logits.mul_(coefs.shared[:, :, None]), extra, leaves)
        for name, part in zip(self._dense, grads[1:], strict=True):
            self._slots[name].view(grad).copy_(part)
        total = (losses * coefs.shared).sum(1)
        return total if extra is None else total + extra.detach(), grads[0], coefs.retrieval

    def _balanced(
        self, step: Step, number: int, losses: Tensor, logits: Tensor, to_logits: Tensor, extra: Tensor | None,
        leaves: Sequence[Tensor], ranker: RankerInput, members: slice, retrieval: Tensor | None,
    ) -> tuple[Coefs, list[Tensor]]:  # fmt: skip
        """A backward pass per task, and their sum with the coefficients of shared and of task-specific parameters."""
        n_tasks = losses.shape[1]
        by_task = []
        for task in range(n_tasks):
            only = torch.zeros_like(to_logits)
            only[:, task] = to_logits[:, task]
            by_task.append(_gradients(logits, only, None, leaves, retain=True))
        gram = self._gram(step, by_task, ranker, members)
        coefs = self._balancer.coefficients(
            number, losses, step.has_label, gram, retrieval=retrieval, condition=step.condition
        )
        # The sum starts from the mechanism's own loss, which is not balanced.
        if extra is None:
            rest = [torch.zeros_like(leaf) for leaf in leaves]
        else:
            rest = _gradients(logits, torch.zeros_like(to_logits), extra, leaves)
        factors = self._shares.factors(coefs, leaves)
        for task, grads in enumerate(by_task):
            for total, part, factor in zip(rest, grads, factors, strict=True):
                total += part * factor[..., task]
        return coefs, rest

    def _gram(self, step: Step, by_task: Sequence[Sequence[Tensor]], ranker: RankerInput, members: slice) -> Tensor:
        """Products of the tasks' gradients on the shared parameters, ``[P_b, T, T]``."""
        group = self.group
        shares = []
        for grads in by_task:
            # A copy, because `backward` overwrites it and the sum over the tasks still needs it.
            vectors = ranker.backward(grads[0].clone(), members)
            # Group 0 only, the table that all tasks share.
            rows = step.back.of(torch.cat([part[:, :, 0].flatten(1) for part in vectors[:3]]))
            if step.pasts is not None and len(vectors) > 3:
                rows.index_add_(0, step.pasts.rows, vectors[3][:, :, 0].flatten(1))
            if self._off is not None:
                # Rows that are switched off are not trained, so they must not count in the products.
                self._off.rows.clear_(rows, step.spans)
            self._ids.clear_(rows, step.dropped)
            if self._smoothing is not None and step.graph is not None:
                rows = self._smoothing.back(rows, step.graph)
            tables = [rows.view(-1, group.size, group.dim).transpose(0, 1)]
            factors: list[Tensor] = []
            if step.content is not None:
                projection = _to_projection(step.content, vectors[1][:, :, :1])[:, 0]
                for adapter in self._adapters:
                    # An adapted part is trained through its factors; `kept` leaves its projection out.
                    factors += adapter.shared_back(group.flat, projection)
                tables.append(projection if self._off is None else projection * self._off.kept)
            shares.append([*tables, *self._shares.dense(grads, rows.dtype), *factors])
        return self._shares.products(shares)


@final
class _Off:
    """Rows of the first table and of the content projections that members of a kernel group have switched off.

    Attributes:
        rows: of gradients ``[n, P * E]``.
        kept: ``[P, D, 1]``, 1 and 0.
    """

    def __init__(self, group: KernelGroup, like: Tensor) -> None:
        shape, dim = group.shape, group.dim
        columns = [slice(member * dim, (member + 1) * dim) for member in range(group.size)]
        self.rows = OffRows(list(zip(group.specs, columns, strict=True)), shape, like.device)
        self.kept = like.new_ones(group.size, shape.n_content, 1)
        for member, spec in enumerate(group.specs):
            for part in untrained_content(spec, shape):
                self.kept[member, part.first : part.first + part.size] = 0.0


@final
class GroupStep:
    """Losses and gradients of kernel groups of equal embedding dimension, whose columns are neighbours.

    Args:
        steps: of the kernel groups.
        dtype: of the activations.
        batched: whether members with equal settings share the products of their retrieval losses
            (`evorec.models.retrieval.loss_groups`).
    """

    def __init__(self, steps: Sequence[KernelGroupStep], dtype: torch.dtype, *, batched: bool) -> None:
        self._steps, self._dtype, self._batched = tuple(steps), dtype, batched
        kernels = [step.group for step in steps]
        self.specs = tuple(spec for group in kernels for spec in group.specs)
        self.members = tuple(member for group in kernels for member in group.members)
        self._shape, self._dim, self._groups = kernels[0].shape, kernels[0].dim, kernels[0].n_groups
        self._attention = self.specs[0].target_attention
        self._columns = tuple(
            slice(first.start, last.stop) for first, last in zip(kernels[0].columns, kernels[-1].columns, strict=True)
        )
        like = kernels[0].flat
        rates = [spec.dropout for spec in self.specs for _ in range(self._groups)]
        self._drop = Dropout.at(rates, like, bits=BITS[dtype])
        self.at = torch.tensor(self.members, device=like.device)
        self._retrieval, self._history, self._temperature = (
            like.new_tensor([getattr(spec, name) for spec in self.specs])[:, None]
            for name in ("retrieval_weight", "history_weight", "temperature")
        )
        self._loss_groups: list[LossGroup] = []
        # All members are of a kind (`evorec.training.trainer.train`).
        self._encoders = encoder_groups(kernels, batched=batched) if self.specs[0].reads_order else []
        own = like.new_tensor([float(spec.user_vector) for spec in self.specs])[:, None]
        self._user_vector = None if all(spec.user_vector for spec in self.specs) else own

    def run(
        self, step: Step, number: int, vectors: Vectors, mask: NegativeMask, drop: Drop, into: Vectors, grad: Tensor
    ) -> Tensor:
        """Losses and gradients of a step.

        Args:
            step: rows and labels.
            number: 1-based.
            vectors: of all members.
            mask: scores of the step that do not belong to negatives.
            drop: dropout draws of the step.
            into: takes the gradients of `vectors` in the columns of these members.
            grad: flat buffer that takes the gradients of the dense parameters.
        Returns:
            Loss of each member, ``[P_e]``.
        """
        b = step.batch_size
        users, items, contexts = (self._own(part) for part in (vectors.users, vectors.items, vectors.contexts))
        if step.content is not None:
            weights = torch.cat([kernel.group.content_weights(kernel.group.trained) for kernel in self._steps])
            items = items + projected(step.content, weights).permute(2, 0, 1, 3)
        weight = self._retrieval
        found = None
        if self._shape.has_items:
            found = self._retrieve(step, mask, users, items, vectors.history, drop)
        else:
            into.history.zero_()
        if found is not None and not self._shape.n_tasks:  # retrieval only
            to_users, to_items, to_contexts = map(torch.zeros_like, (users, items, contexts))
            self._pass_back(step, found, weight, to_users, to_items, into.history, grad)
            self._put_back(step, (to_users, to_items, to_contexts), into, grad)
            return found.losses * weight.flatten()
        index = RowIndex(step.user_of[:b], step.item_of[:b], step.context_of, step.statistics)
        attention = None
        if self.specs[0].attends:
            if step.pasts is None:
                raise ConfigError(
                    "target_attention needs batches with the pasts of their rows; name the gene in [space]"
                )
            attention = TargetAttention(self._own(vectors.past), items, index.items, step.pasts, self._attention)
        n_inputs = self._shape.n_inputs(self._dim, attends=attention is not None)
        uniform = None if self._drop is None else drop(INPUT, b, n_inputs)
        ranker = RankerInput(
            (users, items, contexts), index, self._drop, uniform, attention, has_items=self._shape.has_items
        )
        x = ranker.rows(self._dtype)
        losses, first, retrieval = [], 0, None if found is None else found.losses * weight.flatten()
        for kernel in self._steps:
            own = slice(first, first + kernel.group.size)
            # Detached: every kernel group has a graph of its own, which is freed before the next group runs.
            of_retrieval = None if retrieval is None else retrieval[own]
            loss, to_x, factor = kernel.run(x[own].detach(), step, number, drop, ranker, own, of_retrieval, grad)
            if factor is not None:
                # Factors hold for this step: the members' own weights stay as they are.
                weight = weight.clone() if weight is self._retrieval else weight
                weight[own] *= factor
            if len(self._steps) == 1:
                x = to_x
            else:
                # `ranker` keeps the vectors and not this input, whose memory takes the gradient.
                x[own] = to_x
            losses.append(loss)
            first = own.stop
        to_users, to_items, to_contexts, *to_past = ranker.backward(x)
        if found is not None:
            self._pass_back(step, found, weight, to_users, to_items, into.history, grad)
        self._put_back(step, (to_users, to_items, to_contexts, *to_past), into, grad)
        loss = torch.cat(losses)
        return loss if found is None else loss + found.losses * weight.flatten()

    def _put_back(self, step: Step, grads: Sequence[Tensor], into: Vectors, grad: Tensor) -> None:
        """Writes the gradients of users, items, contexts and past items, and of the projections of content."""
        if step.content is not None:
            self._store_projections(_to_projection(step.content, grads[1]), grad)
        for part, target in zip(grads, (into.users, into.items, into.contexts, into.past), strict=False):
            for table, columns, groups in zip(target, self._columns, (slice(0, 1), slice(1, None)), strict=False):
                table[:, columns] = part[:, :, groups].flatten(1)

    def _own(self, sums: Sequence[Tensor]) -> Tensor:
        """The columns of these members in the ``[m, C]`` sums of each table, as ``[m, P_e, G, E]``."""
        own = [part[:, columns] for part, columns in zip(sums, self._columns, strict=False)]
        n = len(self.specs)
        vectors = [part.reshape(len(part), n, part.shape[1] // (n * self._dim), self._dim) for part in own]
        return vectors[0] if len(vectors) == 1 else torch.cat(vectors, 2)

    def _retrieve(
        self, step: Step, mask: NegativeMask, users: Tensor, items: Tensor, history: Tensor, drop: Drop
    ) -> _Retrieval:
        """Retrieval losses, and their gradients by the unit vectors.

        They are found before the ranker runs, because a balancing may weigh them together with the task losses.
        """
        b, columns = step.batch_size, self._columns[0]
        encoded = []
        if step.sequences is None:
            past = history[:, columns].reshape(-1, len(self.specs), self._dim)
        else:
            past = history.new_empty(len(step.user_of) - b, len(self.specs), self._dim)
            for group in self._encoders:
                encoded.append(group.run(step.sequences, items[:, :, 0], drop))
                past[:, group.at] = encoded[-1].states.detach().transpose(0, 1)
        own = users[:, :, 0].index_select(0, step.user_of[b:])
        if self._user_vector is not None:
            own *= self._user_vector
        asking = _Unit(own.addcmul_(past, self._history), None)
        offered = _Unit(items[:, :, 0].index_select(0, step.item_of[b:]), self._temperature)
        drawn = None
        if len(step.uniform_of):
            drawn = _Unit(items[:, :, 0].index_select(0, step.uniform_of), self._temperature)
        if not self._loss_groups:  # the number of negatives is known from the first step on
            sizes, n_items = mask.n_columns(), self._shape.n_items
            self._loss_groups = loss_groups(self.specs, sizes, n_items, self._temperature, batched=self._batched)
        losses, to_asking, to_offered, to_drawn = retrieval_loss(
            asking.unit, offered.unit, None if drawn is None else drawn.unit, mask, self._loss_groups
        )
        return _Retrieval(losses, (asking, offered, drawn), (to_asking, to_offered, to_drawn), encoded)

    def _pass_back(
        self, step: Step, found: _Retrieval, weight: Tensor, to_users: Tensor, to_items: Tensor, to_history: Tensor,
        grad: Tensor,
    ) -> None:  # fmt: skip
        """Adds the gradients of the retrieval losses, times `weight` ``[P_e, 1]``, to those of users and items.

        Those of histories, or of the encoders of sequences, are set.
        """
        b, columns = step.batch_size, self._columns[0]
        (asking, offered, drawn), (to_asking, to_offered, to_drawn) = found.units, found.grads
        of_users = asking.backward(to_asking, weight)
        own = of_users if self._user_vector is None else of_users * self._user_vector
        to_users[:, :, 0].index_add_(0, step.user_of[b:], own)
        # Overwritten after its last use: the gradient of the users was added above.
        of_past = of_users.mul_(self._history)
        if step.sequences is None:
            to_history[:, columns] = of_past.flatten(1)
        for encoded in found.encoded:
            encoded.backward(of_past, to_items[:, :, 0], grad)
        to_items[:, :, 0].index_add_(0, step.item_of[b:], offered.backward(to_offered, weight))
        if drawn is not None and to_drawn is not None:
            to_items[:, :, 0].index_add_(0, step.uniform_of, drawn.backward(to_drawn, weight))

    def _store_projections(self, to_weights: Tensor, grad: Tensor) -> None:
        first = 0
        for kernel in self._steps:
            own = to_weights[first : first + kernel.group.size]
            for tensor_slot in kernel.group.tensor_slots:
                if tensor_slot.tensor.name == "content.weight":
                    tensor_slot.view(grad).copy_(own[:, 0])
                elif tensor_slot.tensor.name == "task_content.weight":
                    tensor_slot.view(grad).copy_(own[:, 1:].flatten(0, 1))
            first += kernel.group.size


@final
@dataclass(frozen=True)
class _Retrieval:
    """Retrieval losses of a step without their weights.

    Attributes:
        losses: ``[P_e]``.
        units: vectors of the positives' users, of their items and of the items drawn uniformly.
        grads: of the losses by these vectors, ``[P_e, m, E]``.
        encoded: the states of sequence encoders.
    """

    losses: Tensor
    units: tuple[_Unit, _Unit, _Unit | None]
    grads: tuple[Tensor, Tensor, Tensor | None]
    encoded: Sequence[EncodedPast]


@final
class _Unit:
    """Rows ``[m, P, E]`` scaled to unit length, divided by `divisor` ``[P, 1]``, as `unit` ``[P, m, E]``."""

    def __init__(self, rows: Tensor, divisor: Tensor | None) -> None:
        length = rows.square().sum(2, keepdim=True).sqrt_()
        # Before the clamp, which overwrites the length. A short vector is scaled by a constant (`backward`).
        self._long = length > NORM_FLOOR
        self._inverse = length.clamp_min_(NORM_FLOOR).reciprocal_()
        self._unit = rows * self._inverse
        self._divisor = divisor
        out = self._unit if divisor is None else self._unit / divisor
        self.unit = out.transpose(0, 1).contiguous()

    def backward(self, grad: Tensor, weight: Tensor) -> Tensor:
        """Gradient of the rows from that of `unit`, times `weight` ``[P, 1]``."""
        rows = torch.mul(grad.transpose(0, 1), weight, out=torch.empty_like(self._unit))
        if self._divisor is not None:
            rows /= self._divisor
        # d(r / |r|) = (g - u <u, g>) / |r|, without the projection where the length does not enter.
        along = (rows * self._unit).sum(2, keepdim=True).mul_(self._long)
        return rows.addcmul_(self._unit, along, value=-1).mul_(self._inverse)


def group_steps(
    population: Population, balancers: Sequence[Balancer], dense: Sequence[Mapping[str, Tensor]], dtype: torch.dtype,
    *, batch: int,
) -> Iterator[GroupStep]:  # fmt: skip
    """The kernel groups of a population, joined where the embedding dimension is equal.

    On a CPU, a group is split where its ranker input would exceed `INPUT_BYTES`, the size that stays in the cache.

    Args:
        population: its kernel groups.
        balancers: of each kernel group.
        dense: parameters that the layers of each kernel group read.
        dtype: of the activations.
        batch: rows of the ranker.
    """
    shape, batched = population.shape, runs_ahead(population.flat.device)
    parts = zip(population.kernel_groups, balancers, dense, strict=True)
    steps = [KernelGroupStep(*part, batched=batched) for part in parts]

    def shared(step: KernelGroupStep) -> tuple[int, int, str]:
        return step.group.dim, step.group.n_groups, step.group.specs[0].target_attention

    for (dim, groups, attention), equal in groupby(steps, key=shared):
        row = groups * shape.n_inputs(dim, attends=attention != "none") * dtype.itemsize
        most = max(1, INPUT_BYTES // (max(batch, 1) * row))
        chosen: list[KernelGroupStep] = []
        for step in equal:
            if chosen and not batched and sum(own.group.size for own in chosen) + step.group.size > most:
                yield GroupStep(chosen, dtype, batched=batched)
                chosen = []
            chosen.append(step)
        yield GroupStep(chosen, dtype, batched=batched)


def _gradients(
    logits: Tensor, to_logits: Tensor, extra: Tensor | None, leaves: Sequence[Tensor], *, retain: bool = False
) -> list[Tensor]:
    """Gradients of the leaves from those of the logits, and of the mechanism's own loss."""
    outputs, seeds = [logits], [to_logits]
    if extra is not None:
        outputs, seeds = [logits, extra], [to_logits, torch.ones_like(extra)]
    return list(
        # A tower of another task has no path to this task's loss: zeros, not `None`.
        torch.autograd.grad(outputs, leaves, seeds, retain_graph=retain, allow_unused=True, materialize_grads=True)
    )


@final
class _Shares:
    """Which parameters of a kernel group serve several tasks: balancing by gradients gives them other coefficients.

    Args:
        group: its members.
        device: where it trains.
        factors: the members that each factor of an adapter belongs to.
        batched: see `KernelGroupStep`.
    """

    def __init__(
        self, group: KernelGroup, device: torch.device, factors: Sequence[Sequence[int]], *, batched: bool
    ) -> None:
        members, groups = range(group.size), range(group.n_groups)
        tensors = group.network.tensors
        leaves = [[(m, table == 0) for m in members for table in groups]]  # group 0 of the input is the shared table
        leaves += [[(m, task == SHARED) for m, task in zip(t.member, t.task, strict=True)] for t in tensors]
        self._leads = [(group.size, group.n_groups), *((t.n_slots,) for t in tensors)]
        self._coefs = [
            # Index in the coefficients of shared parameters, stacked on those of the others.
            torch.tensor([m if shared else group.size + m for m, shared in leaf], device=device)
            for leaf in leaves
        ]
        slots = {at: [slot for slot, (_, shared) in enumerate(leaf) if shared] for at, leaf in enumerate(leaves) if at}
        self._slots = {at: torch.tensor(own, device=device) for at, own in slots.items() if own}
        owners = [list(members), *([leaves[at][slot][0] for slot in slots[at]] for at in self._slots), *factors]
        self._owners = [torch.tensor(own, device=device) for own in owners]
        self._spans = [[slice(bisect_left(own, m), bisect_right(own, m)) for m in members] for own in owners]
        self._batched = batched

    def factors(self, coefs: Coefs, leaves: Sequence[Tensor]) -> list[Tensor]:
        """Coefficients of the ranker input and the dense parameters, ``[P, G, 1, 1, T]`` and ``[S, 1, 1, T]``."""
        both = torch.cat([coefs.shared, coefs.specific])
        return [
            both.index_select(0, at).to(leaf.dtype).view(*lead, *[1] * (leaf.dim() - len(lead)), -1)
            for at, lead, leaf in zip(self._coefs, self._leads, leaves, strict=True)
        ]

    def dense(self, grads: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
        """The shared slots among gradients of the ranker input and the dense parameters."""
        return [grads[at].index_select(0, own).to(dtype) for at, own in self._slots.items()]

    def products(self, by_task: Sequence[Sequence[Tensor]]) -> Tensor:
        """Products ``[P, T, T]`` of the tasks' gradients.

        Args:
            by_task: of each task, gradients ``[P, ...]`` of tables and projections, then `dense`, then those of the
                factors of adapters.
        """
        n_tables = len(by_task[0]) - len(self._owners) + 1
        if self._batched:
            owners = [self._owners[0]] * n_tables + self._owners[1:]
            out = by_task[0][0].new_zeros(len(self._spans[0]), len(by_task), len(by_task))
            for owner, *parts in zip(owners, *by_task, strict=True):
                rows = torch.stack([part.flatten(1) for part in parts], 1)
                out.index_add_(0, owner, rows @ rows.mT)
            return out
        grams = []
        for spans in zip(*[self._spans[0]] * n_tables, *self._spans[1:], strict=True):
            rows = torch.stack([
                torch.cat([part[own].reshape(-1) for part, own in zip(parts, spans, strict=True)]) for parts in by_task
            ])  # fmt: skip
            # A product [T, n] per member: its sums over n are the same in any stack.
            grams.append(rows @ rows.T)
        return torch.stack(grams)


def _to_projection(content: Tensor, to_items: Tensor) -> Tensor:
    """Gradients ``[P, G, D, E]`` of the projections from those of the item vectors ``[m, P, G, E]``."""
    grads = to_items.permute(1, 2, 0, 3).flatten(0, 1).contiguous()
    out = content.new_empty(len(grads), content.shape[1], grads.shape[2])
    product(content.expand(len(grads), -1, -1).transpose(1, 2), grads, out)
    return out.view(*to_items.shape[1:3], *out.shape[1:])
