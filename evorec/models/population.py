"""Members of any mechanism, width and embedding dimension as a single program.

Embeddings are *columns*: member p owns E_p columns of a table ``[R, C]``, and T * E_p columns of a second table when
its tasks have embeddings of their own. A gather and a weighted sum serve all members together: with rows of P * E
contiguous numbers a gather costs a twentieth of that from a table per member. The rankers form *kernel groups*: members
of equal mechanism and shape (`ModelSpec.group_key`), whose layers are batched products. All dense parameters are views
of a flat buffer.

Path of a row: user, item and context are bags of rows of the tables (the item's content vector adds a projection);
their vectors, the product of user and item, and the row's dense statistics enter the group's network
(`evorec.models.mechanism`), which gives a logit per task. User and item vectors of the first table give the retrieval
score by dot product.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evorec.config import COOCCURRENCE
from evorec.errors import ConfigError
from evorec.models.blocks import InputBlock
from evorec.models.encoder import (
    ENCODERS,
    PREFIX,
    EncoderRun,
    Parameter,
    Sequences,
    own_name,
)
from evorec.models.forward import ForwardPass
from evorec.models.input_shape import InputShape
from evorec.models.layers import draw_columns, product
from evorec.models.mechanism import Network, build_network, n_groups
from evorec.models.pretrained import PretrainedVectors
from evorec.models.slots import SHARED, DenseTensor
from evorec.models.spec import ModelSpec
from evorec.models.switches import PROJECTIONS, OffRows, adapted_content, untrained_content
from evorec.models.target_attention import attended_rows

INIT_SCALE = 0.05
"""Standard deviation of a fresh embedding entry."""
USERS_AT_ONCE = 256
"""Users whose past is encoded at a time."""
NORM_FLOOR = 1e-6
"""Length from which on a vector is scaled to length 1; a shorter vector stays short."""


@final
@dataclass(frozen=True)
class Bag:
    """Weighted bags of embedding rows, a bag for each entity.

    Attributes:
        rows: ``[m, F]`` row numbers.
        weights: ``[m, F]``; 0 for padding.
        content: ``[m, D]`` content vectors or ``None``.
    """

    rows: Tensor
    weights: Tensor
    content: Tensor | None = None

    def select(self, entities: Tensor) -> Bag:
        """Bags of some of the entities."""
        return Bag(
            self.rows[entities], self.weights[entities], None if self.content is None else self.content[entities]
        )

    def sums(self, table: Tensor) -> Tensor:
        """Weighted sums ``[m, C]`` of the rows of a table ``[R, C]``."""
        if self.rows.shape[1] == 0:  # data without context features: embedding_bag refuses bags without a column
            return table.new_zeros(len(self.rows), table.shape[1])
        return F.embedding_bag(self.rows, table, per_sample_weights=self.weights, mode="sum")


@final
@dataclass(frozen=True)
class TensorSlot:
    """A dense tensor of a kernel group and its span in the flat buffer.

    Attributes:
        tensor: its slots and their shape.
        start: first element.
    """

    tensor: DenseTensor
    start: int

    @property
    def stop(self) -> int:
        """First element after the tensor."""
        return self.start + self.tensor.n_entries

    def slots_of(self, member: int) -> slice:
        """Slots of a member of the group, which are neighbours; empty without any."""
        # Members ascend in a tensor, so a member's slots are a slice and its parameters a view.
        return slice(bisect_left(self.tensor.member, member), bisect_right(self.tensor.member, member))

    def view(self, flat: Tensor) -> Tensor:
        """The tensor ``[S, ...]`` in a buffer."""
        return flat[self.start : self.stop].view(len(self.tensor.member), *self.tensor.shape)


@final
class KernelGroup:
    """Members of equal mechanism and shape, whose layers are batched products.

    Attributes:
        network: their layers.
        specs: of the P_b members.
        members: their indices in the population.
        tensor_slots: their dense tensors in the flat buffer.
        columns: their columns of each table.
        flat: the buffer of `tensor_slots`.
        rates: dropout rate of each member.
    """

    def __init__(
        self,
        network: Network,
        members: Sequence[int],
        tensor_slots: Sequence[TensorSlot],
        *,
        tables: Sequence[Tensor],
        columns: Sequence[slice],
        flat: Tensor,
    ) -> None:
        self.network, self.specs, self.shape = network, network.specs, network.shape
        self.members, self.tensor_slots, self.columns = tuple(members), tuple(tensor_slots), tuple(columns)
        self._tables, self.flat = tables, flat
        like = tables[0]
        self.rates = tuple(spec.dropout for spec in self.specs)
        self._history_weight, self._temperature = (
            like.new_tensor([getattr(spec, name) for spec in self.specs])[:, None, None]  # [P_b, 1, 1]
            for name in ("history_weight", "temperature")
        )
        own = [float(spec.user_vector) for spec in self.specs]
        self._user_vector = None if all(own) else like.new_tensor(own)[:, None, None]

    @property
    def size(self) -> int:
        """Number of members P_b."""
        return len(self.specs)

    @property
    def dim(self) -> int:
        """Embedding dimension E."""
        return self.specs[0].embedding_dim

    @property
    def n_groups(self) -> int:
        """Embedding groups G (`evorec.models.mechanism.n_groups`)."""
        return self.network.n_groups

    def dense(self, flat: Tensor) -> dict[str, Tensor]:
        """The dense tensors of the group in a buffer, by name."""
        return {tensor_slot.tensor.name: tensor_slot.view(flat) for tensor_slot in self.tensor_slots}

    @cached_property
    def trained(self) -> dict[str, Tensor]:
        """The dense tensors, by name."""
        return self.dense(self.flat)

    def content_weights(self, dense: Mapping[str, Tensor]) -> Tensor:
        """Projections of content of every member and group, ``[P_b, G, D, E]``."""
        weights = [dense["content.weight"].view(self.size, 1, -1, self.dim)]
        if self.n_groups > 1:
            weights.append(dense["task_content.weight"].view(self.size, self.n_groups - 1, -1, self.dim))
        return torch.cat(weights, 1)

    @cached_property
    def _own_tables(self) -> list[Tensor]:
        """The group's columns of the trained tables side by side in memory, which sums over rows read faster."""
        # Cached: vectors are read once training is over, when nothing writes the tables.
        return [table[:, columns].contiguous() for table, columns in zip(self._tables, self.columns, strict=False)]

    def vectors(self, bag: Bag) -> Tensor:
        """Vectors of users, items or contexts from the trained tables, ``[P_b, G, m, E]``."""
        sums = [bag.sums(table) for table in self._own_tables]
        # [m, P_b, 1, E] and [m, P_b, T, E]: the columns of a member are neighbours.
        each = [part.view(len(part), self.size, -1, self.dim) for part in sums]
        vectors = torch.cat(each, 2).permute(1, 2, 0, 3).contiguous()
        if bag.content is not None:
            vectors += projected(bag.content, self.content_weights(self.trained))
        return vectors

    @property
    def attends(self) -> bool:
        """Whether the rankers read the users' pasts."""
        return self.specs[0].attends

    def past_vectors(self, rows: Tensor, members: slice = slice(None)) -> Tensor:
        """Vectors of past positives ``[m, H]`` (rows of the tables) for some members, ``[P', G, m, H, E]``."""
        n = len(range(self.size)[members])
        found = []
        for table in self._own_tables:
            per_member = table.shape[1] // self.size
            first = range(self.size)[members].start * per_member
            own = table[:, first : first + n * per_member][rows.flatten()]
            found.append(own.view(*rows.shape, n, -1, self.dim))
        return torch.cat(found, 3).permute(2, 3, 0, 1, 4)

    def ranker_input(
        self, users: Tensor, items: Tensor, contexts: Tensor, statistics: Tensor, history: Bag | None = None
    ) -> Tensor:
        """Input of the network for B rows, ``[P_b, G, B, n_in]``; see `rank_logits`."""
        per_member = statistics.expand(self.size, -1, -1)[:, None].expand(-1, contexts.shape[1], -1, -1)
        past = []
        if self.attends:
            assert history is not None, "a ranker with target attention reads the users' pasts"
            vectors = self.past_vectors(history.rows)
            past = [attended_rows(items, vectors, history.weights != 0, self.specs[0].target_attention)]
        # The order of `evorec.models.inputs.RankerInput`, on which the weights were trained.
        pair = [users, items, users * items] if self.shape.has_items else []
        return torch.cat([*pair, contexts, *past, per_member], 3)

    def rank_logits(
        self, users: Tensor, items: Tensor, contexts: Tensor, statistics: Tensor, history: Bag | None = None
    ) -> Tensor:
        """Task logits of B rows, without dropout.

        Args:
            users, items, contexts: ``[P_b, G, B, E]``.
            statistics: ``[B, n_dense]`` or ``[P_b, B, n_dense]``.
            history: past positives of each row's user, B bags; read with target attention only.
        Returns:
            ``[P_b, T, B]``.
        """
        x = self.ranker_input(users, items, contexts, statistics, history)
        return self.network.predict(ForwardPass(self.trained, self.rates), x)

    def past(self, history: Bag, items: Tensor) -> Tensor:
        """Encoded past of some users, ``[P_b, m, E]`` (`evorec.models.encoder`).

        Args:
            history: their past positives, latest first (`evorec.data.dataset.Dataset`).
            items: vectors of group 0 of the whole catalogue, ``[P_b, I, E]``, which sequence encoders read.
        """
        if all(spec.encoder == "bag" and spec.bag_decay == 1 for spec in self.specs):
            return self.vectors(history)[:, 0]
        out = history.weights.new_empty(self.size, len(history.rows), self.dim)
        for member, spec in enumerate(self.specs):
            if spec.reads_order:
                parameters = member_parameters(self.tensor_slots, member, self.flat)
                for start in range(0, len(out[member]), USERS_AT_ONCE):
                    some = slice(start, start + USERS_AT_ONCE)
                    found = items[member][past_items(history.rows[some], self.shape)]
                    out[member, some] = encoded_past(spec, parameters, found, history.weights[some] > 0)
            else:
                table = self._own_tables[0][:, member * self.dim : (member + 1) * self.dim]
                weights = decayed(history.weights, spec.bag_decay)
                out[member] = Bag(history.rows, weights).sums(table.contiguous())
        return out

    def retrieval_users(self, users: Tensor, past: Tensor) -> Tensor:
        """Unit user vectors of the retrieval head, ``[P_b, m, E]``.

        Args:
            users: ``[P_b, m, E]`` of group 0.
            past: ``[P_b, m, E]`` (`past`).
        """
        if self._user_vector is not None:
            users = users * self._user_vector
        # As in training (`evorec.training.step`): a row of zeros stays 0, it does not become NaN.
        return F.normalize(users + self._history_weight * past, dim=2, eps=NORM_FLOOR)

    def retrieval_items(self, items: Tensor) -> Tensor:
        """Unit item vectors of the retrieval head divided by the temperature, ``[P_b, m, E]``."""
        return F.normalize(items, dim=2, eps=NORM_FLOOR) / self._temperature


def decayed(weights: Tensor, decay: float) -> Tensor:
    """Weights of history bags with a further factor ``decay ** j`` of the positive j steps back.

    Args:
        weights: ``[m, H]``, ``w_j / sqrt(sum of w + 1)`` (`evorec.data.histories.history_weights`), latest first.
        decay: in [0, 1].
    Returns:
        ``[m, H]``, the same with ``w_j * decay ** j``.
    """
    if decay == 1:
        return weights
    steps = torch.arange(weights.shape[1], device=weights.device, dtype=weights.dtype)
    plain = weights * plain_factor(weights.sum(1, keepdim=True)) * decay**steps
    return plain / (plain.sum(1, keepdim=True) + 1).sqrt()


def plain_factor(s: Tensor) -> Tensor:
    """``sqrt(W + 1)`` of the sum W of the ``w_j`` of a history bag, from the sum s of ``w_j / sqrt(W + 1)``."""
    # s = W / sqrt(W + 1), so W^2 - s^2 W - s^2 = 0.
    return ((s * s + s * (s * s + 4).sqrt()) / 2 + 1).sqrt()


def encoded_past(spec: ModelSpec, parameters: Mapping[str, Tensor], items: Tensor, real: Tensor) -> Tensor:
    """Past positives as a sequence encoder gives them, ``[m, E]``; 0 without any.

    Args:
        spec: of a member.
        parameters: of its encoder, by name, ``[1, rows, columns]``.
        items: vectors of the past positives, latest first, ``[m, H, E]``.
        real: bool ``[m, H]``, false for padding.
    """
    n, length, dim = items.shape
    order = torch.arange(length, device=items.device).flip(0).expand(n, length)
    sequences = Sequences(None, real.flip(1).long() - 1, order.reshape(-1))
    run = EncoderRun(parameters, sequences, dict(spec.settings))
    states = ENCODERS[spec.encoder].encode(run, items.flip(1).reshape(1, n * length, dim))
    return states.view(n, length, dim)[:, -1] * real.any(1, keepdim=True)


def member_parameters(tensor_slots: Sequence[TensorSlot], member: int, flat: Tensor) -> dict[str, Tensor]:
    """Parameters of the encoder of a member of a kernel group in a buffer, by name, ``[1, rows, columns]``."""
    of_encoder = (slot for slot in tensor_slots if slot.tensor.name.startswith(PREFIX))
    views = {slot.tensor.name: slot.view(flat)[slot.slots_of(member)] for slot in of_encoder}
    return {own_name(name): view for name, view in views.items() if len(view)}


def past_items(rows: Tensor, shape: InputShape) -> Tensor:
    """Items of the catalogue from rows of a history, which are the last I of a table; padding becomes item 0."""
    return (rows - (shape.n_rows - shape.n_items)).clamp_min(0)


@final
class Population:
    """Parameters of P members.

    Args:
        specs: of the members, any mix.
        shape: sizes fixed by the data.
        block_size: most members of a kernel group.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        shape: InputShape,
        *,
        block_size: int = 8,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if not specs:
            raise ConfigError("a population needs at least 1 spec, got none")
        self.specs, self.shape = tuple(specs), shape
        groups = list(_grouped(self.specs, block_size))
        # In the order of the groups: the columns of a group, and of groups of equal dimension, are neighbours.
        self.columns = _columns(self.specs, shape, [member for group in groups for member in group])
        widths = [max((c[i].stop for c in self.columns if len(c) > i), default=0) for i in range(2)]
        self.tables = tuple(torch.zeros(shape.n_rows, w, dtype=dtype, device=device) for w in widths if w)
        programs, n_dense = [], 0
        for group in groups:
            network = build_network([specs[member] for member in group], shape)
            slots = tensor_slots(_dense_tensors(network), n_dense)
            n_dense = slots[-1].stop if slots else n_dense
            programs.append((network, group, slots))
        self.flat = torch.zeros(n_dense, dtype=dtype, device=device)
        self.kernel_groups = tuple(
            KernelGroup(
                *program, tables=self.tables, columns=_joined([self.columns[m] for m in program[1]]), flat=self.flat
            )
            for program in programs
        )

    @property
    def size(self) -> int:
        """Number of members P."""
        return len(self.specs)

    def member_views(self, member: int) -> dict[str, Tensor]:
        """The part of `tables` and of the flat buffer that belongs to a member, by name (`member_arrays`)."""
        tables = zip(("table", "task_table"), self.tables, self.columns[member], strict=False)
        out = {name: table[:, columns] for name, table, columns in tables}
        group, index = self.locate(member)
        own = {slot.tensor.name: slot.view(self.flat)[slot.slots_of(index)] for slot in group.tensor_slots}
        return out | {name: view for name, view in own.items() if len(view)}

    def member_arrays(self, member: int) -> dict[str, np.ndarray]:
        """Parameters of a member: ``table [R, E]``, with task embeddings ``task_table [R, T * E]``, dense slots."""
        return {name: view.cpu().numpy().copy() for name, view in self.member_views(member).items()}

    def load(self, member: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Sets a member's parameters (`member_arrays`), which `check_members` has checked."""
        for name, view in self.member_views(member).items():
            # np.array copies: torch warns of arrays that are not writable.
            view.copy_(torch.as_tensor(np.array(arrays[name])))

    def locate(self, member: int) -> tuple[KernelGroup, int]:
        """The kernel group of a member and the member's index in it."""
        for group in self.kernel_groups:
            if member in group.members:
                return group, group.members.index(member)
        raise IndexError(f"a population of {self.size} has no member {member}")


def fresh_population(
    specs: Sequence[ModelSpec],
    shape: InputShape,
    *,
    seed: int,
    block_size: int = 8,
    device: torch.device,
    dtype: torch.dtype,
    pretrained: PretrainedVectors | None = None,
) -> Population:
    """Population with initial parameters, which are independent of the other members.

    Streams are keyed by (seed, purpose, role of the slot, column): the matrix of a narrower member is a part of that of
    a wider member. Parameters of features that a member has switched off are 0.

    Args:
        specs, shape, block_size, device, dtype: of the population.
        seed: of all streams.
        pretrained: initial values of the items' rows, for members with `ModelSpec.pretrained`.
    Raises:
        ConfigError: a member wants pretrained rows and there are none.
    """
    population = Population(specs, shape, block_size=block_size, dtype=dtype, device=device)
    _draw_tables(population, seed)
    for spec, columns in zip(specs, population.columns, strict=True):
        if spec.pretrained:
            if pretrained is None:
                raise ConfigError(f"pretrained rows need the content {COOCCURRENCE}, which the data do not have")
            pretrained.put(population.tables[0][:, columns[0]], scale=INIT_SCALE)
    for group in population.kernel_groups:
        for tensor_slot in group.tensor_slots:
            tensor_slot.view(population.flat).copy_(torch.from_numpy(_initial(tensor_slot.tensor, seed)))
    # Last, because draws and pretrained vectors fill all rows.
    for table, off in zip(population.tables, off_rows_of(population), strict=True):
        off.clear_(table)
    population.flat.index_fill_(0, off_entries(population), 0.0)
    return population


def stack_members(
    specs: Sequence[ModelSpec], shape: InputShape, members: Sequence[Mapping[str, np.ndarray]], *, device: torch.device
) -> Population:
    """Population from stored members (`Population.member_arrays`), in their floating point type.

    Raises:
        ConfigError: an array is missing or has another shape than the spec says.
    """
    check_members(specs, shape, members)
    dtype = torch.from_numpy(np.empty(0, members[0]["table"].dtype)).dtype
    population = Population(specs, shape, dtype=dtype, device=device)
    for member, arrays in enumerate(members):
        population.load(member, arrays)
    return population


def off_entries(population: Population) -> Tensor:
    """Indices in the flat buffer of the projections' entries that no optimiser changes, int64 ``(n,)``."""
    found = [torch.empty(0, dtype=torch.long)]
    for group in population.kernel_groups:
        off = [untrained_content(spec, group.shape) for spec in group.specs]
        for tensor_slot in group.tensor_slots:
            if tensor_slot.tensor.name in PROJECTIONS:
                n_rows, dim = tensor_slot.tensor.shape
                for slot, member in enumerate(tensor_slot.tensor.member):
                    for part in off[member]:
                        start = tensor_slot.start + (slot * n_rows + part.first) * dim
                        found.append(torch.arange(start, start + part.size * dim))
    return torch.cat(found).to(population.flat.device)


def off_rows_of(population: Population) -> list[OffRows]:
    """The entries of each table that are switched off."""
    members = list(zip(population.specs, population.columns, strict=True))
    return [
        OffRows([(spec, own[i]) for spec, own in members if len(own) > i], population.shape, table.device)
        for i, table in enumerate(population.tables)
    ]


def projected(content: Tensor, weights: Tensor) -> Tensor:
    """Content vectors ``[m, D]`` times projections ``[P, G, D, E]``: ``[P, G, m, E]``."""
    flat = weights.flatten(0, 1)
    out = content.new_empty(len(flat), len(content), flat.shape[2])
    # All members and groups read the same vectors: expanded, not copied.
    return product(content.expand(len(flat), -1, -1), flat, out).view(*weights.shape[:2], *out.shape[1:])


def member_shapes(spec: ModelSpec, shape: InputShape) -> dict[str, tuple[int, ...]]:
    """Array name -> shape of a member's own parameters (`Population.member_arrays`)."""
    out: dict[str, tuple[int, ...]] = {"table": (shape.n_rows, spec.embedding_dim)}
    if spec.task_embeddings:
        out["task_table"] = (shape.n_rows, shape.n_tasks * spec.embedding_dim)
    tensors = _dense_tensors(build_network([spec], shape))
    return out | {tensor.name: (tensor.n_slots, *tensor.shape) for tensor in tensors}


def check_members(specs: Sequence[ModelSpec], shape: InputShape, members: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Checks that stored members have the arrays of their specs.

    Raises:
        ConfigError: an array is missing or has another shape.
    """
    for member, (spec, arrays) in enumerate(zip(specs, members, strict=True)):
        expected, found = member_shapes(spec, shape), {name: array.shape for name, array in arrays.items()}
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise ConfigError(
                    f"stored array {name} of member {member}: expected shape {expected.get(name, 'nothing')}, "
                    f"found {found.get(name, 'nothing')}; the weights belong to another spec or data set"
                )


def tensor_slots(tensors: Sequence[DenseTensor], start: int) -> tuple[TensorSlot, ...]:
    """Consecutive tensors in the flat buffer."""
    starts = accumulate((tensor.n_entries for tensor in tensors), initial=start)
    return tuple(TensorSlot(tensor, first) for tensor, first in zip(tensors, starts, strict=False))


def _dense_tensors(network: Network) -> tuple[DenseTensor, ...]:
    """The mechanism's and the projections of content."""
    specs, shape = network.specs, network.shape
    encoders = encoder_tensors(specs, shape)
    if not shape.n_content:
        return (*network.tensors, *encoders)
    n, tasks = len(specs), range(shape.n_tasks)
    sizes = (shape.n_content, specs[0].embedding_dim)
    # uses = 0: a projection runs for each item, not for each row of the ranker, and its cost is counted apart.
    content = [DenseTensor("content.weight", tuple(range(n)), (SHARED,) * n, ((),) * n, sizes, INIT_SCALE, True, 0)]
    if specs[0].task_embeddings:
        member = tuple(m for m in range(n) for _ in tasks)
        task = tuple(t for _ in range(n) for t in tasks)
        content.append(
            DenseTensor("task_content.weight", member, task, tuple((1 + t,) for t in task), sizes, INIT_SCALE, True, 0)
        )
    return (*network.tensors, *content, *_adapters(network), *encoders)


def encoder_tensors(specs: Sequence[ModelSpec], shape: InputShape) -> list[DenseTensor]:
    """Parameters of the encoders of the past."""
    owners: dict[Parameter, list[int]] = {}
    for member, spec in enumerate(specs):
        encoder, settings = ENCODERS[spec.encoder], dict(spec.settings)
        for parameter in encoder.parameters(settings, spec.embedding_dim, shape.n_past):
            owners.setdefault(parameter._replace(name=f"{PREFIX}{spec.encoder}.{parameter.name}"), []).append(member)
    out = []
    for own, members in owners.items():
        n = len(members)
        fixed = np.full(own.shape, own.start) if own.start else None
        # uses = 0: an encoder runs for each position of a sequence, and its cost is counted apart.
        out.append(
            DenseTensor(own.name, tuple(members), (SHARED,) * n, ((),) * n, own.shape, own.scale, own.decayed, 0, fixed)
        )
    return out


def _adapters(network: Network) -> list[DenseTensor]:
    """Two thin matrices for each embedding group of the members that have them, by part of the content and rank.

    The first is drawn with scale 1, so its outputs are of order 1: the content of an item has unit length. The second
    starts at 0, as in LoRA.
    """
    out, groups, dim = [], range(network.n_groups), network.specs[0].embedding_dim
    for (part, rank), members in adapter_owners(network.specs, network.shape):
        owner = tuple(m for m in members for _ in groups)
        group = [g for _ in members for g in groups]
        task, key = tuple(g - 1 if g else SHARED for g in group), tuple((g,) for g in group)
        for side, sizes, scale in (("down", (part.size, rank), 1.0), ("up", (rank, dim), 0.0)):
            name = adapter_name(part, rank, side)
            out.append(DenseTensor(name, owner, task, key, sizes, scale, True, 0))
    return out


def adapter_owners(specs: Sequence[ModelSpec], shape: InputShape) -> list[tuple[tuple[InputBlock, int], list[int]]]:
    """Each adapted part of the content with its rank, and the indices of the members that have it; ascending."""
    owners: dict[tuple[InputBlock, int], list[int]] = {}
    for member, spec in enumerate(specs):
        for adapter in adapted_content(spec, shape):
            owners.setdefault(adapter, []).append(member)
    return sorted(owners.items())


def adapter_name(part: InputBlock, rank: int, side: str) -> str:
    """Name of a matrix of the adapter of a part of the content; `side` is ``down`` or ``up``."""
    return f"adapter.{part.name}.{rank}.{side}"


def _grouped(specs: Sequence[ModelSpec], block_size: int) -> Iterator[list[int]]:
    """Members of equal group key, in nearly equal parts; members of equal optimiser and depth are neighbours."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for member, spec in enumerate(specs):
        same = (spec.task_embeddings, spec.embedding_dim, spec.target_attention)
        groups.setdefault((*same, *spec.group_key), []).append(member)
    for key in sorted(groups, key=repr):  # members of equal dimension and attention are neighbours
        # Equal optimisers are updated together, and equal depths make long runs of slots (`layers._runs`).
        group = sorted(groups[key], key=lambda m: (specs[m].optimizer, -specs[m].sharing_depth))
        for part in np.array_split(group, -(-len(group) // block_size)):
            yield part.tolist()


def _columns(specs: Sequence[ModelSpec], shape: InputShape, order: Sequence[int]) -> list[tuple[slice, ...]]:
    """Each member's columns of the table and, with task embeddings, of the task table."""
    out: list[tuple[slice, ...]] = [()] * len(specs)
    ends = [0, 0]
    for member in order:
        dim, own = specs[member].embedding_dim, n_groups(specs[member], shape) - 1
        sizes = (dim, own * dim) if own else (dim,)
        out[member] = tuple(slice(ends[i], ends[i] + size) for i, size in enumerate(sizes))
        for i, size in enumerate(sizes):
            ends[i] += size
    return out


def _joined(columns: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    return tuple(slice(first.start, last.stop) for first, last in zip(columns[0], columns[-1], strict=True))


def _draw_tables(population: Population, seed: int) -> None:
    """A draw for each group at the largest dimension; smaller members take its first columns."""
    dims = [spec.embedding_dim for spec in population.specs]
    n_rows = population.shape.n_rows
    draws: dict[int, np.ndarray] = {}

    def draw(group: int) -> np.ndarray:
        if group not in draws:
            # The longest dimension present; a longer draw would have the same first columns.
            wanted = [d for d, c in zip(dims, population.columns, strict=True) if group == 0 or len(c) > 1]
            draws[group] = draw_columns(seed, "init table", (group,) if group else (), n_rows, max(wanted)) * INIT_SCALE
            draws[group][0] = 0.0  # the padding row
        return draws[group]

    for dim, columns in zip(dims, population.columns, strict=True):
        for table, own, groups in zip(population.tables, columns, ((0,), range(1, 1 + population.shape.n_tasks)),
                                      strict=False):  # fmt: skip
            table[:, own] = torch.from_numpy(np.concatenate([draw(g)[:, :dim] for g in groups], 1)).to(table)


def _initial(tensor: DenseTensor, seed: int) -> np.ndarray:
    """Initial values ``[S, ...]``: a draw for each role, the same for all members."""
    if tensor.fixed is not None:
        return np.broadcast_to(tensor.fixed, (len(tensor.member), *tensor.shape)).copy()
    if tensor.scale == 0.0:
        return np.zeros((len(tensor.member), *tensor.shape))
    rows, columns = tensor.shape
    draws = {key: draw_columns(seed, f"init {tensor.name}", key, rows, columns) for key in set(tensor.key)}
    drawn = np.stack([draws[key] for key in tensor.key])
    return (np.sign(drawn) if tensor.signs else drawn) * tensor.scale
