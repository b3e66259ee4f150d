from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from evorec.config import CONTENT_KINDS, COOCCURRENCE, DataConfig, RecommenderConfig, keys, parse_config
from evorec.data.content import text
from evorec.data.encode import encode
from evorec.data.readers import read, with_content
from evorec.data.splits import Split
from evorec.data.tables import Columns, ItemVectors, Tables
from evorec.errors import ConfigError, DataError

ROUNDING = 1e-6  # float32 unit rows
BY_POSITION = Split(np.arange(8), np.array([8, 9]), np.array([10, 11]))
TITLES = ["red fish", "blue fish", None, "red bird", "blue bird"]


def config(folder: Path | None = None, **content: Any) -> DataConfig:
    return DataConfig.model_validate({"path": None if folder is None else str(folder), "content": content})


def titled(small: Tables) -> Tables:
    assert small.items is not None
    return replace(small, items=small.items.with_columns(title=pl.Series(TITLES)))


TEXT = {"kind": "text", "columns": ["title"]}
GRAPH = {"kind": "graph", "path": "graph.tsv"}
VECTORS = {"kind": "vectors", "path": "images.npz"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "graph.tsv").write_text("11\tby\ta\n12\tby\ta\n13\tby\tb\n14\tby\tb\na\tof\tb\n")
    np.savez(tmp_path / "images.npz", ids=[11, 12, 99], vectors=[[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    return tmp_path


def test_every_kind_becomes_a_part_of_the_content(small: Tables, folder: Path) -> None:
    tables = with_content(titled(small), config(folder, title=TEXT, knowledge=GRAPH, image=VECTORS))
    data = encode(tables, BY_POSITION, tasks=("click",), target="click", fit="train")
    widths = [part.values.shape[1] for part in tables.vectors]
    assert [part.name for part in data.content_parts] == ["genres", "title", "knowledge", "image"]
    assert [part.n_columns for part in data.content_parts] == [2, *widths]
    assert data.item_content.shape == (6, 2 + sum(widths))
    assert data.item_content.dtype == np.float32
    for part in data.content_parts[1:]:
        rows = data.item_content[:, part.first_column : part.first_column + part.n_columns]
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 0.5, atol=ROUNDING)  # one of four parts of a unit row


def test_an_item_without_a_vector_holds_the_mean_of_the_part(small: Tables, folder: Path) -> None:
    tables = with_content(replace(small, content=()), config(folder, image=VECTORS))
    data = encode(tables, BY_POSITION, tasks=("click",), target="click", fit="train")
    half = np.sqrt(0.5)  # the mean of (1, 0) and (0, 1), made a unit vector
    expected = [[1, 0], [0, 1], [half, half], [half, half], [half, half], [half, half]]
    np.testing.assert_allclose(data.item_content, expected, atol=ROUNDING)


def test_without_sources_nothing_changes(small: Tables) -> None:
    assert with_content(small, config()) is small
    assert with_content(small, config(cooccurrence={"kind": "cooccurrence"})) is small
    data = encode(small, BY_POSITION, tasks=("click",), target="click", fit="train")
    assert data.distance_content is data.item_content
    assert [part.name for part in data.content_parts] == ["genres"]


def test_cooccurrence_is_fitted_on_the_training_rows_alone(small: Tables) -> None:
    source = config(cooccurrence={"kind": "cooccurrence", "dims": 2}).cooccurrence
    log = small.interactions

    def of(interactions: pl.DataFrame, fit: Any = "train") -> Any:
        tables = small.with_interactions(interactions)
        return encode(tables, BY_POSITION, tasks=("click",), target="click", fit=fit, cooccurrence=source)

    data = of(log)
    later = log.with_columns(
        pl.when(pl.int_range(pl.len()) >= 8).then(pl.lit(12)).otherwise(pl.col(Columns.ITEM)).alias(Columns.ITEM)
    )
    other = of(later)
    *_, part = data.content_parts
    assert part.name == COOCCURRENCE
    catalogue = np.flatnonzero(np.isin(data.item_ids, other.item_ids))
    columns = slice(part.first_column, part.first_column + part.n_columns)
    np.testing.assert_array_equal(data.item_content[catalogue][:, columns], other.item_content[:-1][:, columns])
    assert of(log, "train+validation").item_content.shape == data.item_content.shape
    assert not np.array_equal(of(log, "train+validation").item_content[:, columns], data.item_content[:, columns])


def test_distances_inside_lists_leave_out_who_met_an_item(small: Tables) -> None:
    options: dict[str, Any] = {"tasks": ("click",), "target": "click", "fit": "train"}
    source = config(cooccurrence={"kind": "cooccurrence", "dims": 2}).cooccurrence
    plain = encode(small, BY_POSITION, **options)
    data = encode(small, BY_POSITION, **options, cooccurrence=source)
    assert data.item_content.shape[1] > plain.item_content.shape[1]
    np.testing.assert_allclose(data.distance_content, plain.item_content, atol=ROUNDING)
    bare = encode(replace(small, content=()), BY_POSITION, **options, cooccurrence=source)
    assert bare.distance_content.shape == (6, 0)
    assert data.sha256 != plain.sha256


def test_positives_alone_can_make_the_cooccurrence(small: Tables) -> None:
    found = []
    for rows in ("all", "positives"):
        source = config(cooccurrence={"kind": "cooccurrence", "rows": rows}).cooccurrence
        options: dict[str, Any] = {"tasks": ("click",), "target": "click", "fit": "train"}
        found.append(encode(replace(small, content=()), BY_POSITION, **options, cooccurrence=source))
    assert not np.array_equal(found[0].item_content, found[1].item_content)
    assert found[0].sha256 != found[1].sha256


def test_vectors_are_made_once(small: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOREC_CACHE", str(tmp_path))
    made: list[int] = []
    original = text.word_vectors

    def counted(texts: Any, **options: Any) -> Any:
        made.append(len(texts))
        return original(texts, **options)

    monkeypatch.setattr(text, "word_vectors", counted)
    first = with_content(titled(small), config(title=TEXT))
    again = with_content(titled(small), config(title=TEXT))
    assert made == [5]
    np.testing.assert_array_equal(first.vectors[0].values, again.vectors[0].values)
    with_content(titled(small), config(title={**TEXT, "dims": 1}))
    assert made == [5, 5]
    (kept, _) = sorted((tmp_path / "vectors").iterdir())
    for path in (tmp_path / "vectors").iterdir():
        path.write_bytes(b"damaged")
    with_content(titled(small), config(title=TEXT))
    assert made == [5, 5, 5]
    assert kept.is_file()


def test_a_cache_that_cannot_be_written_is_done_without(
    small: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("EVOREC_CACHE", str(tmp_path / "file"))
    assert len(with_content(titled(small), config(title=TEXT)).vectors) == 1


def test_the_hash_of_the_data_follows_the_content_of_files(small: Tables, folder: Path, tmp_path: Path) -> None:
    def sha256(where: Path, **content: Any) -> str:
        return with_content(titled(small), config(where, **content)).sha256()

    base = sha256(folder, image=VECTORS)
    assert base != titled(small).sha256()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "images.npz").write_bytes((folder / "images.npz").read_bytes())
    assert sha256(elsewhere, image=VECTORS) == base
    assert sha256(folder, picture=VECTORS) != base
    assert sha256(folder, image={**VECTORS, "dims": 1}) != base
    np.savez(elsewhere / "images.npz", ids=[11, 12], vectors=[[1.0, 0.0], [0.0, 4.0]])
    assert sha256(elsewhere, image=VECTORS) != base


def test_parts_that_tables_have_already_stay(small: Tables, folder: Path) -> None:
    tables = with_content(small, config(folder, image=VECTORS))
    assert with_content(tables, config(folder, image=VECTORS)) is tables
    more = with_content(tables, config(folder, image=VECTORS, knowledge=GRAPH))
    assert [part.name for part in more.vectors] == ["image", "knowledge"]
    assert more.vectors[0] is tables.vectors[0]


def test_links_lead_from_items_to_entities(small: Tables, folder: Path) -> None:
    (folder / "kg.tsv").write_text("m.1\tby\ta\nm.2\tby\ta\nm.2\tof\tb\n")
    (folder / "links.csv").write_text("item,entity\n11,m.1\n13,m.2\n")
    source = {"kind": "graph", "path": "kg.tsv", "links": "links.csv"}
    (part,) = with_content(small, config(folder, knowledge=source)).vectors
    assert part.ids.filter(pl.Series(part.values.any(axis=1))).to_list() == [11, 13]


def test_texts_as_ids_work_too(small: Tables, folder: Path) -> None:
    assert small.items is not None
    log = small.interactions.with_columns(pl.col(Columns.ITEM).cast(pl.String))
    items = small.items.with_columns(pl.col(Columns.ITEM).cast(pl.String), title=pl.Series(TITLES))
    tables = replace(small, interactions=log, items=items)
    found = with_content(tables, config(folder, title=TEXT, knowledge=GRAPH, image=VECTORS))
    data = encode(found, BY_POSITION, tasks=("click",), target="click", fit="train")
    numbers = with_content(titled(small), config(folder, title=TEXT, knowledge=GRAPH, image=VECTORS))
    expected = encode(numbers, BY_POSITION, tasks=("click",), target="click", fit="train")
    np.testing.assert_array_equal(data.item_content, expected.item_content)


def test_what_cannot_be_found_is_named(small: Tables, folder: Path) -> None:
    with pytest.raises(DataError, match=r"path of data\.content 'none\.npz' does not exist; tried .*none\.npz"):
        with_content(small, config(folder, image={**VECTORS, "path": "none.npz"}))
    np.savez(folder / "images.npz", ids=[98, 99], vectors=[[1.0], [2.0]])
    with pytest.raises(DataError, match=r"images\.npz must have vectors of items in the data; none of its 2 ids"):
        with_content(small, config(folder, image=VECTORS))
    with pytest.raises(DataError, match=r"data\.content\.title needs an item table with text, and small has none"):
        with_content(replace(small, items=None, item_features=(), content=()), config(title=TEXT))


def test_vectors_of_nothing_are_refused(small: Tables, folder: Path) -> None:
    np.savez(folder / "images.npz", ids=[11], vectors=[[0.0, 0.0]])
    tables = with_content(small, config(folder, image=VECTORS))
    with pytest.raises(DataError, match="content image: no item has a vector that differs from 0"):
        encode(tables, BY_POSITION, tasks=("click",), target="click", fit="train")


def test_tables_refuse_vectors_that_do_not_fit(small: Tables) -> None:
    def part(**changes: Any) -> ItemVectors:
        values: dict[str, Any] = {"name": "v", "ids": pl.Series([11, 12]), "values": np.ones((2, 2), np.float32)}
        return ItemVectors(**{**values, "sha256": "0", **changes})

    bad = np.array([[1.0], [np.inf]], dtype=np.float32)
    for changes, message in (
        ({"name": "genres"}, r"a part is declared twice: \['genres', 'genres'\]"),
        ({"ids": pl.Series(["11", "12"])}, "must have unique ids of type Int64, none missing, got String"),
        ({"ids": pl.Series([11, 11])}, "must have unique ids"),
        ({"values": np.ones((3, 2), np.float32)}, r"must have shape \(2, above 0\), got \(3, 2\)"),
        ({"values": bad}, "must be finite, those of item 12 are not"),
    ):
        with pytest.raises(DataError, match=message):
            replace(small, vectors=(part(**changes),))


def test_the_simulator_reads_with_content() -> None:
    settings = {"simulator": {"n_users": 30, "n_items": 20, "n_interactions": 200, "n_categories": 3}}
    assert read(DataConfig.model_validate(settings)).vectors == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": {"kind": "text"}}, r"data\.content\.a\.columns \(x\) is missing"),
        ({"a": {"kind": "words"}}, r'data\.content\.a \(x\) must be a table with kind = "text" or "vectors" or'),
        ({"a": {}}, r"data\.content\.a \(x\) must be a table with kind"),
        ({"a": 5}, r"data\.content\.a \(x\) must be a table with kind"),
        (
            {"a": {"kind": "text", "columns": ["t"], "dims": 0}},
            r"content\.a\.dims \(x\) must be an integer in 1\.\.4096",
        ),
        (
            {"a": {"kind": "graph", "path": "g", "columns": ["t"]}},
            r"content\.a\.columns \(x\) is not a known key here;",
        ),
        ({"a": {"kind": "graph", "path": "g", "dim": 3}}, r"did you mean data\.content\.<name>\.dims\?"),
        ({"A b": {"kind": "graph", "path": "g"}}, "a name must be small letters, digits and _"),
        ({"a": {"kind": "cooccurrence"}}, "the source of kind 'cooccurrence', and no other, must have that name"),
        ({"cooccurrence": {"kind": "graph", "path": "g"}}, "and no other, must have that name, got 'cooccurrence'"),
    ],
)
def test_a_wrong_source_is_one_sentence(content: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"data": {"content": content}}, source="x")


def test_paths_are_no_part_of_the_fingerprint_and_the_rest_is() -> None:
    def fingerprint(**changes: Any) -> str:
        return parse_config({"data": {"content": {"image": {**VECTORS, **changes}}}}).fingerprint("aa")

    assert fingerprint(path="elsewhere.npz", ids="other") == fingerprint()
    assert fingerprint(dims=3) != fingerprint()


def test_every_kind_is_listed_with_its_settings() -> None:
    listed = {key.name: key for key in keys()}
    for source in CONTENT_KINDS.values():
        assert {f"data.content.<name>.{name}" for name in source.model_fields} <= set(listed)
    named = keys(RecommenderConfig.model_validate({"data": {"content": {"title": TEXT}}}))
    assert {key.name: key.default for key in named}["data.content.title.columns"] == '["title"]'
