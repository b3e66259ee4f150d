from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from evorec.data.content import spectral
from evorec.data.content.graph import LINK, TRIPLE, graph_vectors, linked_items, read_names
from evorec.errors import DataError

ROUNDING = 1e-6  # float32


def triples(*lines: str) -> pl.DataFrame:
    return pl.DataFrame([line.split() for line in lines], schema=list(TRIPLE), orient="row")


def random_triples(n: int = 60, n_items: int = 12, n_tails: int = 7) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return triples(
        *(f"i{rng.integers(n_items)} r{rng.integers(2)} t{rng.integers(n_tails)}" for _ in range(n)), "t0 r0 t1"
    )


def slow_spectrum(graph: pl.DataFrame) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, and eigenvectors of the normalised Laplacian by ascending eigenvalue, by the definition."""
    names = sorted({*graph["head"], *graph["tail"]})
    A = np.zeros((len(names), len(names)))
    for head, _, tail in graph.rows():
        A[names.index(head), names.index(tail)] += 1
        A[names.index(tail), names.index(head)] += 1
    degrees = A.sum(axis=1)
    L = np.eye(len(names)) - A / np.sqrt(np.outer(degrees, degrees))
    values, vectors = np.linalg.eigh(L)
    return names, values, vectors


@pytest.mark.parametrize("dense_up_to", [400, 5])
def test_vectors_are_the_smoothest_ones_of_the_laplacian(dense_up_to: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "DENSE_UP_TO", dense_up_to)
    graph = random_triples()
    names, values, vectors = slow_spectrum(graph)
    assert values[1] > ROUNDING  # connected: one trivial eigenvector, the first
    found = graph_vectors(graph, names, dims=3, relations=[], where="here")
    # an eigenvalue of the normalised adjacency is 1 minus that of the Laplacian
    np.testing.assert_allclose(np.abs(found), np.abs(vectors[:, 1:4] * (1 - values[1:4])), atol=ROUNDING)


def test_items_that_share_more_stand_closer() -> None:
    graph = triples("1 by a", "2 by a", "3 by b", "4 by b", "1 in x", "2 in x", "3 in x", "4 in x")
    found = graph_vectors(graph, ["1", "2", "3", "4"], dims=4, relations=[], where="here")
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosines = unit @ unit.T
    assert cosines[0, 1] > 0.99
    assert cosines[2, 3] > 0.99
    assert cosines[:2, 2:].max() < 0.5


def test_a_relation_that_does_not_count_is_left_out() -> None:
    graph = triples("1 by a", "2 by a", "3 by b", "4 by b", "1 in x", "2 in x", "3 in x", "4 in x")
    everything = graph_vectors(graph.head(4), ["1", "2", "3", "4"], dims=4, relations=[], where="here")
    chosen = graph_vectors(graph, ["1", "2", "3", "4"], dims=4, relations=["by"], where="here")
    np.testing.assert_array_equal(chosen, everything)
    with pytest.raises(DataError, match=r"here: relations \['of'\] are in no triple; there are 2, such as by, in"):
        graph_vectors(graph, ["1"], dims=4, relations=["of"], where="here")


def test_what_no_two_items_share_says_nothing() -> None:
    graph = triples("1 by a", "2 by a", "1 in x", "3 by b", "b of c", "d of e")
    names = ["1", "2", "3", "9"]
    found = graph_vectors(graph, names, dims=4, relations=[], where="here")
    alone = graph_vectors(graph.head(3), names, dims=4, relations=[], where="here")
    np.testing.assert_array_equal(found, alone)
    assert found.any(axis=1).tolist() == [True, True, False, False]


def test_a_loop_and_a_doubled_triple_do_no_harm() -> None:
    graph = triples("1 by a", "2 by a", "2 by b", "1 same 1")
    found = graph_vectors(graph, ["1", "2"], dims=4, relations=[], where="here")
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, graph_vectors(graph.head(3), ["1", "2"], dims=4, relations=[], where="here"))


def test_a_graph_without_two_connected_items_is_refused() -> None:
    with pytest.raises(DataError, match=r"here: no two items are connected; 1 of 2 are in the graph.*'1', 'a'"):
        graph_vectors(triples("1 by a"), ["1", "2"], dims=2, relations=[], where="here")


def test_a_graph_that_tells_no_items_apart_is_refused() -> None:
    with pytest.raises(DataError, match="here: the graph tells no items apart"):
        graph_vectors(triples("1 by a", "2 by a"), ["1", "2"], dims=2, relations=[], where="here")


def test_every_format_gives_the_same_triples(tmp_path: Path) -> None:
    expected = [("1", "by", "a b"), ("2", "by", "ü")]
    (tmp_path / "g.csv").write_text('relation,head,tail,more\nby,1,a b,\nby,2,"ü",\n', encoding="utf-8")
    (tmp_path / "g.tsv").write_text("1\tby\ta b\n2\tby\tü\n", encoding="utf-8")
    (tmp_path / "g.txt").write_text("1\tby\ta b\n2\tby\tü\n", encoding="utf-8")
    pl.DataFrame({"tail": ["a b", "ü"], "head": [1, 2], "relation": ["by", "by"]}).write_parquet(tmp_path / "g.parquet")
    for ending in ("csv", "tsv", "txt", "parquet"):
        assert read_names(tmp_path / f"g.{ending}", TRIPLE).rows() == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.csv", b"head,tail\n1,2\n", r"g\.csv, line 1 must name the columns \['relation'\]"),
        ("g.csv", b"head,relation,tail\n1,by,a\n2,,a\n", r"g\.csv, line 3, column relation must not be empty"),
        ("g.tsv", b"1 by a\n", r"g\.tsv, line 1 must have 3 columns"),
        ("g.tsv", b"1\tby\ta\n2\tby\n", r"g\.tsv, line 2"),
        ("g.tsv", b"1\tby\t\xff\n", r"g\.tsv.* UTF-8"),
        ("g.tsv", b"", r"g\.tsv"),
        ("g.parquet", b"nonsense", r"g\.parquet cannot be read as Parquet"),
        ("g.json", b"{}", r"g\.json must end in \.csv, \.tsv, \.txt or \.parquet"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_names(tmp_path / name, TRIPLE)


def test_a_parquet_file_without_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.parquet"
    for frame, message in (
        ({"head": [1], "tail": [2]}, r"lacks the columns \['relation'\]"),
        ({"head": [1.5], "relation": ["a"], "tail": [2]}, "column head must hold names or integers, got Float64"),
        ({"head": [1, None], "relation": ["a", "a"], "tail": [2, 2]}, "row 2, column head must not be empty"),
    ):
        pl.DataFrame(frame).write_parquet(path)
        with pytest.raises(DataError, match=message):
            read_names(path, TRIPLE)


def test_links_name_the_entity_of_an_item(tmp_path: Path) -> None:
    links = pl.DataFrame({"item": ["1", "2", "1"], "entity": ["m.a", "m.b", "m.a"]})
    assert links.columns == list(LINK)
    assert linked_items(links, tmp_path) == {"1": "m.a", "2": "m.b"}
    links = pl.DataFrame({"item": ["1", "1"], "entity": ["m.a", "m.b"]})
    with pytest.raises(DataError, match=r"item '1' must have one entity, got 'm\.b' too"):
        linked_items(links, tmp_path)
