"""Graphs in onnxruntime beside the stack code of the search, for every mechanism, and beside loops in numpy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import MECHANISMS, of_mechanism

from evorec.data.dataset import Csr
from evorec.deploy.bundle.graphs import (
    GRAPHS,
    PARAMETERS,
    ItemVectors,
    Member,
    catalogue_inputs,
    example_inputs,
    traced,
)
from evorec.deploy.fusion.formula import NUMPY, Formula, member_formula
from evorec.models.input_shape import InputShape
from evorec.models.population import Bag, Population, fresh_population
from evorec.models.recommend import ItemSide, Lists, UserSide, recommend
from evorec.models.spec import ModelSpec
from evorec.serving.graph import Graph

PARITY = 1e-5  # float32: the same sums in another order
TASKS = ("click", "buy")
SHAPE = InputShape(n_rows=40, n_content=3, n_dense=4, n_tasks=2, n_layers=2, n_items=9, parents=(-1, 0), n_past=3)
DIM, N_ITEMS, MOMENT = 4, 9, 2
BASE: dict[str, Any] = {
    "task_weights": (1.2, 0.8), "sharing_depth": 1,
    "task_embeddings": False, "balancing": "fixed", "embedding_dim": DIM, "width": 6,
    "dropout": 0.3, "optimizer": "adamw", "learning_rate": 0.01, "embedding_learning_rate": 0.01,
    "embedding_decay": 0.0, "dense_decay": 0.0, "retrieval_weight": 1.0, "retrieval_loss": "softmax", "negatives": 4,
    "negative_source": "batch", "temperature": 0.2, "history_weight": 0.7,
    "popularity_weight": 1.0, "popularity_smoothing": 1.0, "popularity_half_life": 3.0, "rank_blend": 0.9,
}  # fmt: skip


def spec(mechanism: str, **changes: Any) -> ModelSpec:
    own = of_mechanism(mechanism)
    own["settings"] = tuple(sorted(own["settings"].items()))
    deeper = {"sharing_depth": 2} if mechanism == "ple" else {}
    return ModelSpec(**{**BASE, **own, **deeper, **changes})


class Model:
    """A member with parameters of its own, two of whose items are the same, and everything it is asked with."""

    def __init__(self, of: ModelSpec, *, formula: str | None = None, scales: Any = (None, None)) -> None:
        self.population: Population = fresh_population(
            [of], SHAPE, seed=3, device=torch.device("cpu"), dtype=torch.float32
        )
        rng = np.random.default_rng(0)
        for table in self.population.tables:  # as after training: initial values are tiny
            table.copy_(torch.tensor(rng.normal(size=table.shape), dtype=torch.float32))
        self.population.flat.copy_(torch.tensor(rng.normal(size=self.population.flat.shape) / 2, dtype=torch.float32))
        self.prior = rng.normal(size=N_ITEMS).astype(np.float32)
        self.rows = rng.integers(1, SHAPE.n_rows, (N_ITEMS, 2))
        self.weights = rng.random((N_ITEMS, 2)).astype(np.float32)
        self.content = rng.normal(size=(N_ITEMS, 3)).astype(np.float32)
        self.statistics = rng.normal(size=(N_ITEMS, 2)).astype(np.float32)
        for array in (self.prior, self.rows, self.weights, self.content, self.statistics):
            array[5] = array[2]  # the same item under two ids
        arrays = {PARAMETERS + name: array for name, array in self.population.member_arrays(0).items()}
        chosen = member_formula(of, TASKS, ()) if formula is None else Formula.parse(formula, TASKS)
        self.member = Member(of, SHAPE, arrays, scales, 2, 2, MOMENT, chosen, TASKS)
        with torch.no_grad():
            vectors, keys = ItemVectors(self.member)(self.items())
        arrays |= {
            "catalogue.vectors": vectors.contiguous().numpy(), "catalogue.keys": keys.T.contiguous().numpy(),
            "catalogue.prior": self.prior, "catalogue.statistics": self.statistics,
        }  # fmt: skip
        self.moment = np.array([7, 30])

    def items(self) -> dict[str, torch.Tensor]:
        found = {"item_rows": self.rows, "item_weights": self.weights, "item_content": self.content}
        return {name: torch.tensor(array) for name, array in found.items()}

    def graph(self, name: str, folder: Path) -> Graph:
        program, outputs = GRAPHS[name]
        inputs = example_inputs(self.member, name, n=4, n_items=N_ITEMS, seed=0)
        if name == "recommend":
            inputs |= catalogue_inputs(self.member)
        path = folder / f"{name}.onnx"
        path.write_bytes(traced(program(self.member), inputs, outputs, name=name).SerializeToString())
        return Graph(path, outputs)

    def users(self, n: int) -> dict[str, np.ndarray]:
        """Bags with padding, an empty past for the first one, and items that are not to be listed."""
        rng = np.random.default_rng(n)
        past = rng.integers(SHAPE.n_rows - N_ITEMS, SHAPE.n_rows, (n, 3))
        weights = rng.random((n, 3)).astype(np.float32)
        past[0], weights[0], weights[:, 2] = 0, 0, 0
        excluded = np.full((n, 2), -1)
        excluded[::2, 0] = rng.integers(0, N_ITEMS, len(excluded[::2]))
        return {
            "user_rows": rng.integers(1, SHAPE.n_rows, (n, 3)), "user_weights": rng.random((n, 3)).astype(np.float32),
            "history_rows": past, "history_weights": weights,
            "user_statistics": rng.normal(size=(n, 2)).astype(np.float32), "excluded": excluded,
            "context_rows": np.repeat(self.moment[None], n, axis=0),
        }  # fmt: skip

    def feeds(self, asked: dict[str, np.ndarray], *, k: int, candidates: int) -> dict[str, np.ndarray]:
        catalogue = {name: tensor.numpy() for name, tensor in catalogue_inputs(self.member).items()}
        numbers = {"k": np.array(k), "candidates": np.array(candidates), "allowed": np.ones(N_ITEMS, dtype=bool)}
        return asked | catalogue | numbers

    def by_the_search(self, asked: dict[str, np.ndarray], *, k: int, candidates: int) -> Lists:
        """What the stack code lists."""

        def bag(rows: np.ndarray, weights: np.ndarray, content: np.ndarray | None = None) -> Bag:
            return Bag(torch.tensor(rows), torch.tensor(weights), None if content is None else torch.tensor(content))

        line, place = np.nonzero(asked["excluded"] >= 0)
        pairs = sorted({(int(u), int(asked["excluded"][u, p])) for u, p in zip(line, place, strict=True)})
        users, items = (np.array([pair[i] for pair in pairs], dtype=np.int64) for i in (0, 1))
        masked = Csr.from_pairs(users, items, n_rows=len(asked["excluded"]))
        ones = np.ones((1, MOMENT), dtype=np.float32)
        return recommend(
            self.population,
            ItemSide(bag(self.rows, self.weights, self.content), torch.tensor(self.statistics),
                     bag(self.moment[None], ones)),
            UserSide(bag(asked["user_rows"], asked["user_weights"]),
                     bag(asked["history_rows"], asked["history_weights"]),
                     torch.tensor(asked["user_statistics"]), masked),
            self.prior[None].astype(np.float64), k=k, candidates=candidates,
        )  # fmt: skip

    def logits(self, asked: dict[str, np.ndarray], items: Sequence[int]) -> np.ndarray:
        """Outputs of the ranker ``(T, n)`` for user i and item i, by `KernelGroup.rank_logits`."""
        block, places = self.population.kernel_groups[0], list(items)
        with torch.no_grad():
            users = block.vectors(Bag(torch.tensor(asked["user_rows"]), torch.tensor(asked["user_weights"]), None))
            given = [torch.tensor(array[places]) for array in (self.rows, self.weights, self.content)]
            moment = torch.tensor(asked["context_rows"])
            context = block.vectors(Bag(moment, torch.ones(moment.shape), None))
            statistics = torch.tensor(np.hstack([asked["user_statistics"], self.statistics[places]]))
            past = Bag(torch.tensor(asked["history_rows"]), torch.tensor(asked["history_weights"]))
            found: np.ndarray = block.rank_logits(users, block.vectors(Bag(*given)), context, statistics, past)[
                0
            ].numpy()
        return found


def check_lists(model: Model, graph: Graph, n: int, k: int, candidates: int) -> None:
    asked = model.users(n)
    items, scores = graph(model.feeds(asked, k=k, candidates=candidates))
    expected = model.by_the_search(asked, k=k, candidates=candidates)
    np.testing.assert_array_equal(items, expected.final[0])
    np.testing.assert_allclose(scores, expected.scores[0], rtol=PARITY, atol=PARITY)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_graph_of_every_mechanism_makes_the_lists_of_the_search(mechanism: str, tmp_path: Path) -> None:
    """Several checks of one graph, because tracing takes seconds."""
    attention = {"mmoe": "softmax", "stem": "sigmoid"}.get(mechanism, "none")
    model = Model(spec(mechanism, target_attention=attention))
    graph = model.graph("recommend", tmp_path)
    for n, k, candidates in ((1, 3, 5), (2, 9, 9), (7, 1, 1), (7, 5, 6)):
        check_lists(model, graph, n, k, candidates)
    check_ties_and_masks(model, graph)
    check_another_catalogue(model, graph)


ENCODERS: dict[str, dict[str, Any]] = {
    "fading bag": {"bag_decay": 0.6},
    "gru": {"encoder": "gru", "settings": (("encoder_dropout", 0.4),)},
    "attention": {
        "encoder": "attention", "user_vector": False,
        "settings": (("attention_heads", 2), ("attention_layers", 2), ("encoder_dropout", 0.4)),
    },
}  # fmt: skip


@pytest.mark.parametrize("changes", ENCODERS.values(), ids=ENCODERS)
def test_the_graph_of_every_encoder_makes_the_lists_of_the_search(changes: dict[str, Any], tmp_path: Path) -> None:
    model = Model(spec("shared_bottom", **changes))
    graph = model.graph("recommend", tmp_path)
    for n, k, candidates in ((1, 3, 5), (7, 5, 6)):
        check_lists(model, graph, n, k, candidates)


def check_ties_and_masks(model: Model, graph: Graph) -> None:
    """Equal items are ordered by index, and masked items are not listed."""
    asked = model.users(3)
    asked["excluded"][:] = -1
    items, scores = graph(model.feeds(asked, k=N_ITEMS, candidates=N_ITEMS))
    for row, own in zip(items.tolist(), scores, strict=True):
        assert row.index(5) == row.index(2) + 1
        assert own[row.index(5)] == own[row.index(2)]
    feeds = model.feeds(asked, k=4, candidates=N_ITEMS)
    feeds["allowed"] = np.arange(N_ITEMS) == 3
    items, scores = graph(feeds)
    assert items.tolist() == [[3, -1, -1, -1]] * 3
    assert np.isneginf(scores[:, 1:]).all()
    feeds["excluded"] = np.array([[3, 3, -1], [-1, -1, 3], [-1, -1, -1]])
    assert graph(feeds)[0][:, 0].tolist() == [-1, -1, 3]


def check_another_catalogue(model: Model, graph: Graph) -> None:
    """A caller may feed the arrays of other items."""
    asked = model.users(2)
    asked["excluded"][:] = -1
    whole = graph(model.feeds(asked, k=N_ITEMS, candidates=N_ITEMS))
    feeds, some = model.feeds(asked, k=3, candidates=3), [6, 1, 4]
    for name, axis in {
        "catalogue.vectors": 1,
        "catalogue.keys": 1,
        "catalogue.prior": 0,
        "catalogue.statistics": 0,
    }.items():
        feeds[name] = np.ascontiguousarray(feeds[name].take(some, axis=axis))
    feeds["allowed"] = np.ones(3, dtype=bool)
    items, scores = graph(feeds)
    for user in range(2):
        own = dict(zip(whole[0][user].tolist(), whole[1][user], strict=True))
        expected = sorted(some, key=lambda item: -own[item])
        assert [some[item] for item in items[user]] == expected
        np.testing.assert_allclose(scores[user], [own[item] for item in expected], rtol=PARITY, atol=PARITY)


@pytest.mark.parametrize(
    "mechanism", [pytest.param(m, marks=() if m == "stem" else pytest.mark.slow) for m in MECHANISMS]
)
def test_the_ranker_graph_equals_the_stack(mechanism: str, tmp_path: Path) -> None:
    number = (3.0, 2.5) if mechanism == "stem" else None
    model = Model(spec(mechanism, ensemble_heads=2, target_attention="softmax"), scales=(None, number))
    graph = model.graph("ranker", tmp_path)
    for n in (1, 2, 7):
        asked, items = model.users(n), [i % N_ITEMS for i in range(n)]
        given = {name: tensor.numpy()[items] for name, tensor in model.items().items()}
        predictions, outputs = graph(asked | given | {"item_statistics": model.statistics[items]})
        logits = model.logits(asked, items)
        np.testing.assert_allclose(outputs, logits.T, rtol=PARITY, atol=PARITY)
        second = logits[1] * 2.5 + 3.0 if number else 1 / (1 + np.exp(-logits[1]))
        expected = np.stack([1 / (1 + np.exp(-logits[0])), second], axis=1)
        np.testing.assert_allclose(predictions, expected, rtol=PARITY, atol=PARITY)


def test_without_a_ranker_lists_have_the_order_of_retrieval(tmp_path: Path) -> None:
    model = Model(spec("shared_bottom", rank_blend=0.0))
    graph = model.graph("recommend", tmp_path)
    for n, k in ((1, 3), (2, N_ITEMS), (7, 4)):
        asked = model.users(n)
        items, scores = graph(model.feeds(asked, k=k, candidates=k))
        expected = model.by_the_search(asked, k=k, candidates=k)
        np.testing.assert_allclose(scores, expected.scores[0], rtol=PARITY, atol=PARITY)
        same = np.array([2 if item == 5 else item for item in range(N_ITEMS)])  # either of the two may come first
        np.testing.assert_array_equal(same[items], same[expected.final[0]])


def test_a_formula_in_the_graph_is_the_formula_in_numpy(tmp_path: Path) -> None:
    text = "max(retrieval, 0.5 * z_click) + p_buy ** 2.0 / (0.1 + p_click) - log(p_buy)"
    text += " + max(max(p_buy, 0.2), 0.3) - max(max(p_buy, 0.2), 0.4)"  # fused under one name, once
    model = Model(spec("shared_bottom", task_embeddings=True), formula=text)
    graph, n = model.graph("recommend", tmp_path), 4
    asked = model.users(n)
    asked["excluded"][:] = -1
    items, scores = graph(model.feeds(asked, k=N_ITEMS, candidates=N_ITEMS))
    plain = Model(spec("shared_bottom", task_embeddings=True, rank_blend=0.0))
    first = plain.by_the_search(asked, k=N_ITEMS, candidates=N_ITEMS)
    for user in range(n):
        retrieved = np.empty(N_ITEMS)
        retrieved[first.final[0, user]] = first.scores[0, user]
        alone = {name: np.repeat(array[user : user + 1], N_ITEMS, axis=0) for name, array in asked.items()}
        z = model.logits(alone, range(N_ITEMS)).astype(np.float64)
        p = 1 / (1 + np.exp(-z))
        values = {"retrieval": retrieved, "z_click": z[0], "p_click": p[0], "p_buy": p[1]}
        by_hand = np.maximum(retrieved, 0.5 * z[0]) + p[1] ** 2 / (0.1 + p[0]) - np.log(p[1])
        by_hand += np.maximum(p[1], 0.3) - np.maximum(p[1], 0.4)
        np.testing.assert_allclose(Formula.parse(text, TASKS).evaluate(values, NUMPY), by_hand, rtol=PARITY)
        np.testing.assert_allclose(scores[user], by_hand[items[user]], rtol=PARITY, atol=PARITY)
        assert (np.diff(scores[user]) <= 0).all()
