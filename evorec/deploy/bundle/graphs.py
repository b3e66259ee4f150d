"""A member as ONNX graphs: vectors of users and items, the ranker, and the best items of a user.

The graphs are traced from the networks that train and measure a member.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from evorec.deploy.fusion.formula import RETRIEVAL, Formula, Operators, identifier
from evorec.models.blend import blended
from evorec.models.encoder import PREFIX, own_name
from evorec.models.forward import ForwardPass
from evorec.models.input_shape import InputShape
from evorec.models.mechanism import build_network
from evorec.models.population import NORM_FLOOR, decayed, encoded_past, past_items
from evorec.models.spec import ModelSpec
from evorec.models.target_attention import attended_lists, attended_rows

if TYPE_CHECKING:
    import onnx

OPSET: Final = 20
PARAMETERS: Final = "parameters."
"""Prefix of the trained arrays; the others are encoded data for serving."""
CATALOGUE: Final = ("catalogue.vectors", "catalogue.keys", "catalogue.prior", "catalogue.statistics")
"""Arrays of the whole catalogue; a caller may feed other arrays."""

ITEM_ITEM: Final = "item_item."
"""Prefix of the arrays of the item-item matrix (`evorec.models.item_item.ItemItemModel.arrays`)."""
MATRIX: Final = ("neighbours", "values", "dense", "left", "right")
"""Names of those arrays; a matrix has some of them."""
PAST: Final = "past"
"""Buffer of the items' vectors that a sequence encoder reads."""
MOST_INT8: Final = 127

Inputs = Mapping[str, Tensor]


@final
@dataclass(frozen=True)
class Member:
    """A member and its data, for the graphs.

    Attributes:
        spec: of the member.
        shape: sizes fixed by the data.
        arrays: trained parameters, with `PARAMETERS` before their names, those of `CATALOGUE`, and those of the
            item-item matrix with `ITEM_ITEM`.
        number_scales: of each task ``None``, or shift and scale from the output to the label's unit.
        n_user_statistics, n_item_statistics: dense inputs of the two sides.
        n_context: context features.
        formula: the list score.
        tasks: names, as `formula` has them.
    """

    spec: ModelSpec
    shape: InputShape
    arrays: Mapping[str, np.ndarray]
    number_scales: Sequence[tuple[float, float] | None]
    n_user_statistics: int
    n_item_statistics: int
    n_context: int
    formula: Formula
    tasks: Sequence[str]

    @property
    def ranks(self) -> bool:
        """Whether the list score needs the ranker."""
        return self.formula.names != (RETRIEVAL,)

    @property
    def reads_order(self) -> bool:
        """Whether the past is read as a sequence."""
        return self.spec.reads_order

    @property
    def attends(self) -> bool:
        """Whether the ranker reads the past."""
        return self.spec.attends

    @property
    def uses_item_item(self) -> bool:
        """Whether there are item-item scores."""
        return self.spec.uses_item_item


class Exported(Protocol):
    """What graphs are traced and checked with: a `Member`, or an ensemble (`evorec.deploy.bundle.mixed_graphs`)."""

    @property
    def shape(self) -> InputShape:
        """Sizes fixed by the data."""
        ...

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Parameters and data by name."""
        ...

    @property
    def n_user_statistics(self) -> int:
        """Dense inputs of users."""
        ...

    @property
    def n_item_statistics(self) -> int:
        """Dense inputs of items."""
        ...

    @property
    def n_context(self) -> int:
        """Context features."""
        ...

    @property
    def tasks(self) -> Sequence[str]:
        """Names of the tasks."""
        ...

    @property
    def ranks(self) -> bool:
        """Whether the list score needs the ranker."""
        ...

    @property
    def reads_order(self) -> bool:
        """Whether the past is read as a sequence."""
        ...

    @property
    def attends(self) -> bool:
        """Whether the ranker reads the past."""
        ...

    @property
    def uses_item_item(self) -> bool:
        """Whether there are item-item scores."""
        ...


class Program(Protocol):
    """A graph in torch."""

    @property
    def member(self) -> Any:
        """What it is traced with."""
        ...

    def __init__(self, member: Any) -> None: ...
    def eval(self) -> Any:
        """The graph without dropout."""
        ...

    def __call__(self, given: Any) -> Any: ...


class _Graph(torch.nn.Module):
    """Base of the graphs: parameters under their stored names, and vectors from bags of rows."""

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.member = member
        spec = replace(member.spec, dropout=0.0)
        self._network = build_network([spec], member.shape)
        for name, array in member.arrays.items():
            if name.startswith(PARAMETERS):
                self.register_buffer(_attribute(name), torch.tensor(np.asarray(array)))
        if spec.reads_order and "catalogue.vectors" in member.arrays:
            # The bundle's own items: a caller may feed another catalogue, but a past has no other rows.
            self.register_buffer(PAST, torch.tensor(np.asarray(member.arrays["catalogue.vectors"][0])))

    def _parameter(self, name: str) -> Tensor:
        found: Tensor = getattr(self, _attribute(PARAMETERS + name))
        return found

    def _gathered(self, table: str, rows: Tensor) -> Tensor:
        """Rows of an embedding table, ``[m, F, C]``."""
        return self._parameter(table)[rows]

    def _vectors(self, rows: Tensor, weights: Tensor, content: Tensor | None = None) -> Tensor:
        """Vectors ``[G, m, E]`` of bags ``[m, F]``; as `KernelGroup.vectors`."""
        dim = self.member.spec.embedding_dim
        tables = ("table", "task_table") if self.member.spec.task_embeddings else ("table",)
        sums = [(self._gathered(table, rows) * weights[..., None]).sum(1) for table in tables]
        vectors = torch.cat(sums, 1).view(rows.shape[0], -1, dim).transpose(0, 1)
        if content is None:
            return vectors
        names = ("content.weight", "task_content.weight") if len(tables) > 1 else ("content.weight",)
        return vectors + content @ torch.cat([self._parameter(name) for name in names])

    def _logits(
        self, user: Tensor, item: Tensor, context: Tensor, statistics: Tensor, past: Tensor | None = None
    ) -> Tensor:
        """Outputs ``[T, m]`` of the ranker for vectors ``[G, m, E]`` and statistics ``[m, n_dense]``."""
        of_groups, pasts = statistics.expand(context.shape[0], -1, -1), [] if past is None else [past]
        pair = [user, item, user * item] if self.member.shape.has_items else []
        x = torch.cat([*pair, context, *pasts, of_groups], 2)[None]
        dense = {tensor.name: self._parameter(tensor.name) for tensor in self._network.tensors}
        return self._network.predict(ForwardPass(dense, (0.0,)), x)[0]

    def _pasts(self, given: Inputs) -> Tensor:
        """Vectors ``[G, m, H, E]`` of the past positives of m users."""
        rows, dim = given["history_rows"], self.member.spec.embedding_dim
        tables = ("table", "task_table") if self.member.spec.task_embeddings else ("table",)
        whole = torch.cat([self._gathered(table, rows) for table in tables], 2)
        return whole.view(*rows.shape, -1, dim).permute(2, 0, 1, 3)

    def _context(self, given: Inputs, like: Tensor) -> Tensor:
        """Vectors of the context; 0 for data without context features."""
        if not self.member.n_context:
            return torch.zeros_like(like)
        return self._vectors(given["context_rows"], torch.ones_like(given["context_rows"], dtype=like.dtype))

    def _past_vectors(self, rows: Tensor) -> Tensor:
        """Vectors of group 0 of the items of histories ``[m, H]``, as a sequence encoder reads them: ``[m, H, E]``."""
        vectors: Tensor = getattr(self, PAST)
        return vectors[past_items(rows, self.member.shape)]

    def query(self, given: Inputs, user: Tensor) -> Tensor:
        """Unit vectors ``[m, E]`` of the retrieval head."""
        spec, rows, weights = self.member.spec, given["history_rows"], given["history_weights"]
        if spec.reads_order:
            names = [name for name in self.member.arrays if name.startswith(PARAMETERS + PREFIX)]
            parameters = {own_name(name.removeprefix(PARAMETERS)): getattr(self, _attribute(name)) for name in names}
            past = encoded_past(spec, parameters, self._past_vectors(rows), weights > 0)
        else:
            past = self._vectors(rows, decayed(weights, spec.bag_decay))[0]
        own = user[0] if spec.user_vector else torch.zeros_like(user[0])
        return F.normalize(own + spec.history_weight * past, dim=1, eps=NORM_FLOOR)

    def _item_side(self, given: Inputs) -> Tensor:
        return self._vectors(given["item_rows"], given["item_weights"], given.get("item_content"))


@final
class UserVectors(_Graph):
    """Unit retrieval vectors of users: ``score = user_vectors @ item_keys + prior``."""

    def forward(self, given: dict[str, Tensor]) -> Tensor:
        """``[m, E]``."""
        return self.query(given, self._vectors(given["user_rows"], given["user_weights"]))


@final
class ItemVectors(_Graph):
    """Vectors of items for the ranker, and their keys of retrieval."""

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """``[G, m, E]`` and ``[m, E]``."""
        vectors = self._item_side(given)
        return vectors, F.normalize(vectors[0], dim=1, eps=NORM_FLOOR) / self.member.spec.temperature


@final
class Ranker(_Graph):
    """Predictions of every task for pairs of user and item, or for rows without both.

    A prediction is a probability, or a number in the label's own unit.
    """

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Predictions and raw outputs, both ``[m, T]``."""
        if self.member.shape.has_items:
            user = self._vectors(given["user_rows"], given["user_weights"])
            item, context = self._item_side(given), self._context(given, user)
        else:
            user = item = context = self._vectors(given["context_rows"], given["context_weights"])
        sides = [given[name] for name in ("user_statistics", "item_statistics") if name in given]
        statistics = torch.cat(sides, 1) if sides else user.new_zeros(user.shape[1], 0)
        past = None
        if (kind := self.member.spec.target_attention) != "none":
            past = attended_rows(item, self._pasts(given), given["history_weights"] != 0, kind)
        logits = self._logits(user, item, context, statistics, past)
        return predictions(logits, self.member.number_scales), logits.T


def predictions(logits: Tensor, number_scales: Sequence[tuple[float, float] | None]) -> Tensor:
    """Probabilities, or numbers in the label's unit, ``[m, T]``, of outputs ``[T, m]``."""
    out = [
        torch.sigmoid(one) if scale is None else scale[0] + scale[1] * one
        for one, scale in zip(logits.unbind(0), number_scales, strict=True)
    ]
    return torch.stack(out, 1)


class Recommend(_Graph):
    """From users to their best items: both stages and the list score's formula."""

    def __init__(self, member: Member) -> None:
        super().__init__(member)
        for name, array in member.arrays.items():
            if name.startswith(ITEM_ITEM):
                self.register_buffer(_attribute(name), torch.tensor(np.asarray(array)))

    def retrieval(self, given: Inputs, user: Tensor) -> Tensor:
        """Retrieval scores ``[U, I]``."""
        spec, prior = self.member.spec, self._catalogue(given, "catalogue.prior")
        scores = prior
        if spec.uses_vectors:
            scores = self._matched(given, self.query(given, user)) + prior
        if spec.uses_item_item:
            scores = blended(scores, self._item_item(given, prior), spec.item_item_share)
        return scores

    def _item_item(self, given: Inputs, prior: Tensor) -> Tensor:
        """Item-item scores ``[U, I]``, 0 for the items that the bundle did not have."""
        items, weights = given["past_items"], given["past_weights"]
        names = [name for name in MATRIX if ITEM_ITEM + name in self.member.arrays]
        own: dict[str, Tensor] = {name: getattr(self, _attribute(ITEM_ITEM + name)) for name in names}
        # In float64, as `ItemItemModel.scores`.
        out = torch.zeros(items.shape[0], prior.shape[0], dtype=torch.float64, device=prior.device)
        if "neighbours" in own:
            values = own["values"][items].to(torch.float64) * weights[..., None]
            out = out.scatter_add(1, own["neighbours"][items].flatten(1), values.flatten(1))
        parts = []
        if "dense" in own:
            parts.append((own["dense"][items].to(torch.float64) * weights[..., None]).sum(1))
        if "left" in own:
            parts.append(((own["left"][items] * weights[..., None]).sum(1) @ own["right"]).to(torch.float64))
        for part in parts:
            column = torch.arange(part.shape[1], device=prior.device).expand(part.shape[0], -1)
            out = out.scatter_add(1, column, part)
        return out.to(prior.dtype)

    def _catalogue(self, given: Inputs, name: str) -> Tensor:
        """An array of `CATALOGUE`."""
        return given[name]

    def _matched(self, given: Inputs, queries: Tensor) -> Tensor:
        """Products ``[U, I]`` of users with the keys of all items."""
        return queries @ given["catalogue.keys"]

    def _listed(self, given: Inputs, items: Tensor) -> Tensor:
        """Vectors ``[G, n, E]`` of some items."""
        return given["catalogue.vectors"][:, items]

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Indices of items, int64 ``[U, k]``, -1 for no item, and their list scores."""
        user = self.users(given)
        scores = self.retrieval(given, user)
        return best_of_scores(given, scores, partial(self.final, given, user) if self.member.ranks else None)

    def users(self, given: Inputs) -> Tensor:
        """Vectors of the users, ``[G, U, E]``."""
        return self._vectors(given["user_rows"], given["user_weights"])

    def final(self, given: Inputs, user: Tensor, items: Tensor, retrieved: Tensor) -> Tensor:
        """List scores ``[U, C]`` of the candidates."""
        n_users, n_candidates = items.shape
        chosen = items.flatten()

        def each(of_user: Tensor) -> Tensor:  # [..., U, n] -> [..., U * C, n]
            spread = of_user.unsqueeze(-2).expand(*of_user.shape[:-1], n_candidates, of_user.shape[-1])
            return spread.reshape(*of_user.shape[:-2], n_users * n_candidates, of_user.shape[-1])

        statistics = [each(given["user_statistics"])] if "user_statistics" in given else []
        if self.member.n_item_statistics:
            statistics.append(self._catalogue(given, "catalogue.statistics")[chosen])
        dense = torch.cat(statistics, 1) if statistics else user.new_zeros(chosen.shape[0], 0)
        context = self._context(given, user)
        vectors, past = self._listed(given, chosen), None
        if (kind := self.member.spec.target_attention) != "none":
            of_users = vectors.view(-1, n_users, n_candidates, vectors.shape[2])
            past = attended_lists(of_users, self._pasts(given), given["history_weights"] != 0, kind).flatten(1, 2)
        logits = self._logits(each(user), vectors, each(context), dense, past)
        by_name = {RETRIEVAL: torch.where(retrieved.isneginf(), 0.0, retrieved)}
        for task, output in zip(self.member.tasks, logits.view(-1, n_users, n_candidates).unbind(0), strict=True):
            by_name |= {f"z_{identifier(task)}": output, f"p_{identifier(task)}": torch.sigmoid(output)}
        score: Tensor = self.member.formula.evaluate({n: by_name[n] for n in self.member.formula.names}, TORCH)
        return score


def best_of_scores(
    given: Inputs, scores: Tensor, final: Callable[[Tensor, Tensor], Tensor] | None
) -> tuple[Tensor, Tensor]:
    """The best items of each user by retrieval, or by the list scores of the candidates that retrieval finds.

    Args:
        given: inputs of the graph.
        scores: retrieval scores ``[U, I]``.
        final: list scores of candidates with their retrieval scores, all ``[U, C]``; ``None`` = retrieval decides.
    """
    scores = torch.where(given["allowed"], scores, -torch.inf)
    excluded = torch.where(given["excluded"] >= 0, -torch.inf, torch.inf).to(scores.dtype)
    scores = scores.scatter_reduce(1, given["excluded"].clamp_min(0), excluded, "amin")
    if final is None:
        top, items = torch.topk(scores, _size(given["k"], scores), dim=1)
        return torch.where(top.isneginf(), -1, items), top
    retrieved, items = torch.topk(scores, _size(given["candidates"], scores), dim=1)
    items, order = torch.sort(items, dim=1)  # equal scores are ordered by item
    retrieved = retrieved.gather(1, order)
    total = torch.where(retrieved.isneginf(), -torch.inf, final(items, retrieved))
    top, position = torch.topk(total, _size(given["k"], total), dim=1)
    return torch.where(top.isneginf(), -1, items.gather(1, position)), top


def _minimum(one: Tensor, other: Tensor) -> Tensor:
    return torch.where(one < other, one, torch.where(one >= other, other, one + other))


def _maximum(one: Tensor, other: Tensor) -> Tensor:
    return torch.where(one < other, other, torch.where(one >= other, one, one + other))


def _clip(x: Tensor, low: float, high: float) -> Tensor:
    return torch.where(x < low, low, torch.where(x > high, high, x))


TORCH: Final[Operators[Any]] = Operators(
    log=torch.log, exp=torch.exp, minimum=_minimum, maximum=_maximum, clip=_clip, where=torch.where
)
"""Without Min, Max and Clip: onnxscript 0.7 fuses two of them that read the same input, as in ``p ** 2.0 - log(p)``,
under the same name, and the graph then misses an input or reads the wrong input. NaN stays NaN.
"""


@final
class SmallRecommend(Recommend):
    """`Recommend` for small devices: tables and catalogue, in half or a quarter of the bytes, are part of the graph.

    With ``int8`` every row has its own scale, its largest entry divided by 127.

    Args:
        member: of the graph.
        kind: ``fp16`` or ``int8``.
    """

    def __init__(self, member: Member, kind: str) -> None:
        super().__init__(member)
        for name in ("table", "task_table"):
            if PARAMETERS + name in member.arrays:
                self._store(PARAMETERS + name, self._parameter(name), kind)
                delattr(self, _attribute(PARAMETERS + name))
        if hasattr(self, PAST):
            delattr(self, PAST)
        for name in ("catalogue.vectors", "catalogue.keys"):
            array = torch.tensor(np.asarray(member.arrays[name]))
            self._store(name, array.T.contiguous() if name == "catalogue.keys" else array, kind)
        for name in ("catalogue.prior", "catalogue.statistics"):
            self.register_buffer(_attribute(name), torch.tensor(np.asarray(member.arrays[name])))

    def _store(self, name: str, rows: Tensor, kind: str) -> None:
        """Store rows ``[..., n, E]`` in the smaller type, with their scales."""
        scale = torch.ones_like(rows[..., :1])
        if kind == "int8":
            scale = rows.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / MOST_INT8
            small = (rows / scale).round().to(torch.int8)
        else:
            small = rows.to(torch.float16)
        self.register_buffer(f"small_{_attribute(name)}", small)
        self.register_buffer(f"scale_{_attribute(name)}", scale)

    def _kept(self, name: str) -> tuple[Tensor, Tensor]:
        return getattr(self, f"small_{_attribute(name)}"), getattr(self, f"scale_{_attribute(name)}")

    def _gathered(self, table: str, rows: Tensor) -> Tensor:
        small, scale = self._kept(PARAMETERS + table)
        return small[rows].to(torch.float32) * scale[rows]

    def _catalogue(self, given: Inputs, name: str) -> Tensor:
        found: Tensor = getattr(self, _attribute(name))
        return found

    def _matched(self, given: Inputs, queries: Tensor) -> Tensor:
        small, scale = self._kept("catalogue.keys")
        return (queries @ small.to(torch.float32).T) * scale[:, 0]

    def _past_vectors(self, rows: Tensor) -> Tensor:
        small, scale = self._kept("catalogue.vectors")
        items = past_items(rows, self.member.shape)
        return small[0][items].to(torch.float32) * scale[0][items]

    def _listed(self, given: Inputs, items: Tensor) -> Tensor:
        small, scale = self._kept("catalogue.vectors")
        return small[:, items].to(torch.float32) * scale[:, items]


def example_inputs(member: Exported, graph: str, *, n: int, n_items: int, seed: int) -> dict[str, Tensor]:
    """Random inputs of a graph by name, within the ranges that the bundle allows.

    Args:
        member: of the graph.
        graph: ``user_vectors``, ``item_vectors``, ``ranker`` or ``recommend``.
        n: users, items or pairs.
        n_items: items of the catalogue.
        seed: of the draws.
    """
    rng = torch.Generator().manual_seed(seed)
    shape = member.shape

    def rows(columns: int) -> Tensor:
        return torch.randint(0, shape.n_rows, (n, columns), generator=rng)

    def reals(columns: int) -> Tensor:
        return torch.randn(n, columns, generator=rng)

    user = {"user_rows": rows(3), "user_weights": reals(3).abs()}
    # A sequence encoder reads as many positions as the bundle stores; a bag has any size.
    n_past = shape.n_past if member.reads_order else 4
    past = {"history_rows": rows(n_past), "history_weights": reals(n_past).abs()}
    if member.uses_item_item and graph == "recommend":
        past["past_items"] = torch.randint(0, n_items, (n, 5), generator=rng)
        past["past_weights"] = reals(5).abs()
    item = {"item_rows": rows(3), "item_weights": reals(3).abs()}
    if shape.n_content:
        item["item_content"] = F.normalize(reals(shape.n_content), dim=1)
    of_user = {"user_statistics": reals(member.n_user_statistics)} if member.n_user_statistics else {}
    of_item = {"item_statistics": reals(member.n_item_statistics)} if member.n_item_statistics else {}
    moment = {"context_rows": rows(member.n_context)} if member.n_context else {}
    if not shape.has_items:
        return moment | {"context_weights": reals(member.n_context).abs()}
    if graph == "user_vectors":
        return user | past
    if graph == "item_vectors":
        return item
    if graph == "ranker":
        return user | (past if member.attends else {}) | of_user | item | of_item | moment
    asked = {
        "allowed": torch.ones(n_items, dtype=torch.bool),
        "excluded": torch.randint(-1, n_items, (n, 3), generator=rng),
        "k": torch.tensor(min(5, n_items)),
    }
    if not member.ranks:
        return user | past | asked
    return user | past | of_user | moment | asked | {"candidates": torch.tensor(min(8, n_items))}


def catalogue_inputs(member: Exported) -> dict[str, Tensor]:
    """The arrays of the catalogue that `Recommend` reads, by name."""
    keys = ("catalogue.keys", "catalogue.prior")
    if member.ranks:
        keys = ("catalogue.vectors", *keys, *(("catalogue.statistics",) if member.n_item_statistics else ()))
    return {name: torch.tensor(np.asarray(member.arrays[name])) for name in keys}


GRAPHS: Final[Mapping[str, tuple[type[_Graph], tuple[str, ...]]]] = {
    "user_vectors": (UserVectors, ("vectors",)),
    "item_vectors": (ItemVectors, ("vectors", "keys")),
    "ranker": (Ranker, ("predictions", "outputs")),
    "recommend": (Recommend, ("items", "scores")),
}
"""Name of a graph -> its program and the names of its outputs."""


def traced(graph: Program, inputs: Mapping[str, Tensor], outputs: Sequence[str], *, name: str) -> onnx.ModelProto:
    """The ONNX model of a graph, with dynamic axes; input names as in `inputs`.

    Args:
        graph: to trace.
        inputs: examples, see `example_inputs`; with arrays of the catalogue where the graph reads them.
        outputs: their names.
        name: of the graph.
    """
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph.eval(),
            kwargs={"given": dict(inputs)},
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes={"given": {name: _dynamic(name, tensor, graph.member) for name, tensor in inputs.items()}},
            optimize=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _remove_notes(model)
    model.graph.name, model.graph.doc_string = name, (graph.__doc__ or "").strip()
    return model


def _remove_notes(message: Any) -> None:
    """Remove the exporter's notes: they name source files, and their order differs between processes."""
    for name in ("metadata_props", "doc_string"):
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                _remove_notes(part)


def _dynamic(name: str, tensor: Tensor, member: Exported) -> dict[int, Any] | None:
    """Dynamic axes of an input."""
    if not member.shape.has_items:
        return dict.fromkeys(range(tensor.dim()), torch.export.Dim.DYNAMIC)
    # the catalogue of a small graph is part of it, so its size is fixed
    auto = torch.export.Dim.AUTO if name == "allowed" else torch.export.Dim.DYNAMIC
    if name in ("k", "candidates"):
        return None
    axes = {
        "catalogue.vectors": (1,), "catalogue.keys": (1,), "allowed": (0,), "catalogue.prior": (0,),
        "catalogue.statistics": (0,), "user_statistics": (0,), "item_statistics": (0,), "context_rows": (0,),
        "item_content": (0,),
        **({"history_rows": (0,), "history_weights": (0,)} if member.reads_order else {}),
    }.get(name, tuple(range(tensor.dim())))  # fmt: skip
    return dict.fromkeys(axes, auto)


def _size(wanted: Tensor, scores: Tensor) -> int:
    """A number that is known when the graph runs, at most the columns of the scores."""
    size: int = wanted.item()  # type: ignore[assignment]  # a symbol while the graph is traced
    # torch.export documents these checks for sizes that depend on data
    torch._check(size >= 1)  # type: ignore[no-untyped-call]
    torch._check(size <= scores.shape[1])  # type: ignore[no-untyped-call]
    return size


def _attribute(name: str) -> str:
    """Name of a buffer: modules allow no dots."""
    return name.replace(".", "__")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which logs thousands of lines and warns of libraries that it does not need."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
