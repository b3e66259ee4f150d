"""Damaged bundles, added and missing files, and bundles that lie consistently: one kind of error, and nothing runs."""

import json
import os
import pickle
import random
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exported
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from evorec.deploy.bundle.export import seal
from evorec.errors import RunError
from evorec.serving.bundle import read_arrays, read_bundle
from evorec.serving.recommender import load_bundle

FLIPS, ZEROED, TRUNCATED, MISSING, ADDED = 100, 100, 60, 20, 20
BLOCK = 512
MOST_BYTES = 64 << 20  # that reading a lie may take


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported.plain(tmp_path_factory.getbasetemp()).bundle


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "bundle")
    return tmp_path / "bundle"


def refused(bundle: Path, words: str = r"\w") -> None:
    with pytest.raises(RunError, match=words):
        load_bundle(bundle)


def files(bundle: Path) -> list[Path]:
    return sorted(bundle.iterdir())


# Damage: 300 of 300


def test_every_flipped_bit_is_noticed(bundle: Path) -> None:
    rng, damaged = random.Random(0), set()
    for i in range(FLIPS):
        file = files(bundle)[i % len(files(bundle))]
        before = file.read_bytes()
        place, bit = rng.randrange(len(before)), rng.randrange(8)
        after = bytearray(before)
        after[place] ^= 1 << bit
        file.write_bytes(after)
        refused(bundle)
        file.write_bytes(before)
        damaged.add(file.name)
    assert damaged >= {"manifest.json", "manifest.sha256", "README.md", "model.safetensors", "recommend.onnx"}
    load_bundle(bundle)


def test_every_zeroed_block_is_noticed(bundle: Path) -> None:
    rng, n = random.Random(1), 0
    while n < ZEROED:
        file = rng.choice(files(bundle))
        before = file.read_bytes()
        place = rng.randrange(max(1, len(before) - BLOCK))
        after = bytearray(before)
        after[place : place + BLOCK] = bytes(len(before[place : place + BLOCK]))
        if after != before:
            file.write_bytes(after)
            refused(bundle)
            file.write_bytes(before)
            n += 1
    load_bundle(bundle)


def test_every_truncation_is_noticed(bundle: Path) -> None:
    rng = random.Random(2)
    for i in range(TRUNCATED):
        file = files(bundle)[i % len(files(bundle))]
        before = file.read_bytes()
        file.write_bytes(before[: rng.choice([0, len(before) - 1, rng.randrange(len(before))])])
        refused(bundle)
        file.write_bytes(before)
    load_bundle(bundle)


def test_every_missing_file_is_noticed(bundle: Path, tmp_path: Path) -> None:
    n = 0
    while n < MISSING:
        for file in files(bundle):
            file.rename(tmp_path / "away")
            refused(bundle, f"has lost {file.name}|is not a bundle")
            (tmp_path / "away").rename(file)
            n += 1
    load_bundle(bundle)


def test_every_added_file_is_noticed(bundle: Path, tmp_path: Path) -> None:
    kinds: tuple[Callable[[Path], Any], ...] = (
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("x"),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(tmp_path),
        lambda path: path.symlink_to("nowhere"),
    )
    names = ("z", ".hidden", "model.pkl", "Manifest.json")
    for name in names:
        for add in kinds:
            add(bundle / name)
            refused(bundle, f"has files that its manifest does not list: {name}; remove them")
            (bundle / name).rmdir() if (bundle / name).is_dir() and not (bundle / name).is_symlink() else (
                bundle / name
            ).unlink()
    assert len(names) * len(kinds) == ADDED
    load_bundle(bundle)


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256", "model.safetensors", "recommend.onnx"])
def test_a_link_or_a_pipe_instead_of_a_file_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    (bundle / name).rename(tmp_path / name)
    (bundle / name).symlink_to(tmp_path / name)
    refused(bundle, "not a (regular )?file|do not trust it")
    (bundle / name).unlink()
    os.mkfifo(bundle / name)  # whose reader would wait for ever
    refused(bundle, "not a (regular )?file|has lost")
    (bundle / name).unlink()
    (bundle / name).mkdir()
    refused(bundle, "not a (regular )?file|has lost")


def test_a_bundle_may_be_moved_and_linked_to(bundle: Path, tmp_path: Path) -> None:
    bundle.rename(tmp_path / "moved")
    (tmp_path / "latest").symlink_to("moved")
    assert load_bundle(tmp_path / "latest").recommend([1]) == load_bundle(str(tmp_path / "moved")).recommend([1])


def test_a_bundle_of_an_older_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "files": {}}))
    refused(tmp_path, r"has format 1, this evorec reads formats 2 and 3; export it again")


def test_a_bundle_of_a_newer_format_is_refused(bundle: Path) -> None:
    resealed(bundle, lambda manifest: manifest.update(format=4))
    refused(bundle, r"has format 4, this evorec reads formats 2 and 3")


# Lies: hashes are right, the content is not


def resealed(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the manifest as somebody would who knows that hashes are checked."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    seal(bundle, manifest)


def with_file(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def apply(bundle: Path) -> None:
        value = json.loads((bundle / name).read_text())
        changed = change(value)
        (bundle / name).write_text(json.dumps(value if changed is None else changed))
        resealed(bundle, lambda manifest: None)

    return apply


def with_arrays(described: bool = True, **changes: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Arrays of other content, e.g. ``item__rows``, which the manifest describes as they are."""

    def apply(bundle: Path) -> None:
        arrays = load_file(bundle / "model.safetensors")
        for name, change in changes.items():
            arrays[name.replace("__", ".")] = np.ascontiguousarray(change(arrays[name.replace("__", ".")]))
        save_file(arrays, bundle / "model.safetensors")
        tensors = {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()}
        resealed(bundle, lambda manifest: manifest.update(tensors=tensors) if described else None)

    return apply


def field(side: str, place: int, **changes: Any) -> Callable[[Path], None]:
    return with_file("encoders.json", lambda encoders: encoders[side][place].update(changes))


TRACE = Path(tempfile.gettempdir()) / f"evorec-unpickled-{os.getpid()}"


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(TRACE),))


BOMB = pickle.dumps(Bomb())


def with_bytes(name: str, data: bytes) -> Callable[[Path], None]:
    def apply(bundle: Path) -> None:
        (bundle / name).write_bytes(data)
        resealed(bundle, lambda manifest: None)

    return apply


LIES: dict[str, Callable[[Path], None]] = {
    "ids twice": with_file("ids.json", lambda ids: ids["items"].__setitem__(1, ids["items"][0])),
    "ids of two kinds": with_file("ids.json", lambda ids: ids["users"].__setitem__(0, "x")),
    "ids that are lists": with_file("ids.json", lambda ids: ids["users"].__setitem__(0, [1])),
    "ids that are true": with_file("ids.json", lambda ids: ids["users"].__setitem__(0, True)),
    "one id more": with_file("ids.json", lambda ids: ids["items"].append(10**7)),
    "no users": with_file("ids.json", lambda ids: ids.pop("users")),
    "no items": with_file("ids.json", lambda ids: ids["items"].clear()),
    "a list of ids": with_file("ids.json", lambda ids: [1]),
    "ids that are a text": with_file("ids.json", lambda ids: ids.update(users="abc")),
    "deep ids": with_bytes("ids.json", b"[" * 100_000),
    "broken encoders": with_bytes("encoders.json", b"\xff{"),
    "no encoders of items": with_file("encoders.json", lambda e: e.pop("item")),
    "encoders that are a list": with_file("encoders.json", lambda e: []),
    "no kind": with_file("encoders.json", lambda e: e["user"][0].pop("kind")),
    "another kind": field("user", 0, kind="vector"),
    "a row before the table": field("user", 0, first_row=-1),
    "a row behind the table": field("item", 0, first_row=10**6),
    "a row that is a text": field("item", 0, first_row="1"),
    "a column before the bag": field("user", 0, first_column=-1),
    "a column behind the bag": field("item", 1, first_column=99),
    "many columns": field("context", 0, n_columns=10**12),
    "values without a hash": field("item", 0, values=[[1]]),
    "edges of text": field("user", 1, edges=["a"] * 15),
    "a content column behind the vector": field("content", 0, first_column=10**6),
    "content without learned": with_file("encoders.json", lambda e: e["content"][0].pop("learned")),
    "more content values than columns": field("content", 1, values=list(range(100))),
    "statistics of nowhere": with_file("encoders.json", lambda e: e["item_statistics"][0].update(array="parameters.x")),
    "statistics before the first": with_file("encoders.json", lambda e: e["item_statistics"][0].update(first=-1)),
    "statistics by a column of nowhere": with_file(
        "encoders.json", lambda e: e["item_statistics"][0].update(fields=[99])
    ),
    "no k": lambda b: resealed(b, lambda m: m.pop("k")),
    "k of text": lambda b: resealed(b, lambda m: m.update(k="many")),
    "k of 0": lambda b: resealed(b, lambda m: m.update(k=0)),
    "candidates of 0": lambda b: resealed(b, lambda m: m.update(candidates=0)),
    "candidates that are true": lambda b: resealed(b, lambda m: m.update(candidates=True)),
    "mmr of 2": lambda b: resealed(b, lambda m: m.update(mmr=2)),
    "a huge mmr": lambda b: resealed(b, lambda m: m.update(mmr=10**400)),
    "recency of text": lambda b: resealed(b, lambda m: m.update(history_recency="x")),
    "no prior": lambda b: resealed(b, lambda m: m.pop("new_item_prior")),
    "no tasks": lambda b: resealed(b, lambda m: m.update(tasks=[])),
    "tasks of numbers": lambda b: resealed(b, lambda m: m.update(tasks=[1, 2, 3])),
    "no tensors": lambda b: resealed(b, lambda m: m.pop("tensors")),
    "tensors that are a list": lambda b: resealed(b, lambda m: m.update(tensors=[])),
    "another shape": lambda b: resealed(b, lambda m: m["tensors"].update({"item.rows": ["int64", [1, 1]]})),
    "rows before the table": with_arrays(item__rows=lambda a: a - 10**6),
    "rows behind the table": with_arrays(user__rows=lambda a: a + 10**6),
    "a past behind the table": with_arrays(history__rows=lambda a: a + 10**6),
    "a moment behind the table": with_arrays(context__rows=lambda a: a + 10**6),
    "rows that are fractions": with_arrays(item__rows=lambda a: a.astype(np.float32)),
    "weights that are whole": with_arrays(item__weights=lambda a: a.astype(np.int64)),
    "too few lines": with_arrays(user__rows=lambda a: a[:-1]),
    "rows of one dimension": with_arrays(user__rows=lambda a: a[:, 0]),
    "another number of columns": with_arrays(user__weights=lambda a: a[:, :1]),
    "too few items": with_arrays(catalogue__keys=lambda a: a[:, 1:]),
    "masks of nowhere": with_arrays(masked__indices=lambda a: a + 100),
    "masks that fall": with_arrays(masked__indptr=lambda a: a[::-1]),
    "arrays that are not described": with_arrays(described=False, item__rows=lambda a: a.astype(np.float32)),
    "a pickle": with_bytes("model.safetensors", BOMB),
    "no graph": with_bytes("recommend.onnx", b"no graph"),
    "a pickled graph": with_bytes("ranker.onnx", BOMB),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_bundle_that_lies_consistently_is_refused(bundle: Path, lie: str) -> None:
    LIES[lie](bundle)
    refused(bundle)
    assert not TRACE.exists()


def test_a_graph_with_other_outputs_is_refused(bundle: Path) -> None:
    for name, words in (("ranker", "predictions and outputs"), ("recommend", "items and scores")):
        shutil.copy(bundle / "user_vectors.onnx", bundle / f"{name}.onnx")
        resealed(bundle, lambda manifest: None)
        refused(bundle, rf"{name}\.onnx does not give {words}")


def test_arrays_that_the_graph_cannot_use_are_an_error_of_the_bundle(bundle: Path) -> None:
    with_arrays(catalogue__keys=lambda a: np.zeros((3, a.shape[1]), dtype=np.float32))(bundle)
    with pytest.raises(RunError, match=r"cannot be run|contradicts"):
        load_bundle(bundle).with_items([exported_item()]).recommend([1])


def exported_item() -> Any:
    from evorec.serving.queries import Item

    return Item("new", {"category": 1})


def test_a_name_of_another_task_is_an_error_of_the_bundle(bundle: Path) -> None:
    resealed(bundle, lambda manifest: manifest.update(tasks=["click"]))
    with pytest.raises(RunError, match="names 1 tasks and predicts 3"):
        load_bundle(bundle).score(1, [1])


def test_a_graph_cannot_make_us_read_other_files(bundle: Path, tmp_path: Path) -> None:
    import onnx

    (tmp_path / "secret").write_bytes(b"x" * (1 << 20))
    model = onnx.load(bundle / "recommend.onnx", load_external_data=False)
    outside = [tensor for tensor in model.graph.initializer if tensor.external_data]
    assert outside, "the test needs a graph with weights in a file"
    for tensor in outside:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret"
            if entry.key == "offset":
                entry.value = "0"
    (bundle / "recommend.onnx").write_bytes(model.SerializeToString())
    resealed(bundle, lambda manifest: None)
    refused(bundle, r"recommend\.onnx cannot be run")


# The format of the arrays


def safetensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HEADERS = {
    "an overlap": safetensors({"a": one(), "b": one(offsets=(2, 6))}, bytes(6)),
    "a gap": safetensors({"a": one(), "b": one(offsets=(6, 10))}, bytes(10)),
    "the same bytes twice": safetensors({"a": one(), "b": one()}, bytes(4)),
    "bytes behind": safetensors({"a": one()}, bytes(5)),
    "bytes missing": safetensors({"a": one()}, bytes(3)),
    "a huge header": safetensors({"a": one()}, bytes(4), length=2**63),
    "a header behind the file": safetensors({"a": one()}, bytes(4), length=10**6),
    "a negative size": safetensors({"a": one(shape=(-1,))}, bytes(4)),
    "two negative sizes": safetensors({"a": one(shape=(-1, -1))}, bytes(4)),
    "a negative size and end": safetensors({"a": one(shape=(-1,), offsets=(0, -4))}),
    "a huge size": safetensors({"a": one(shape=(10**30,))}, bytes(4)),
    "sizes whose product is 0": safetensors({"a": one(shape=(2**32, 2**32), offsets=(0, 0))}),
    "sizes whose product wraps": safetensors({"a": one(shape=(2**32, 2**32 + 1), offsets=(0, 2**34))}),
    "a huge array of nothing": safetensors({"a": one(shape=(2**62, 0), offsets=(0, 2**62))}),
    "an unknown type": safetensors({"a": one(dtype="O8")}, bytes(4)),
    "a type that is a list": safetensors({"a": one(dtype=["F32"])}, bytes(4)),
    "sizes that are a text": safetensors({"a": one(shape="1")}, bytes(4)),
    "sizes that are fractions": safetensors({"a": one(shape=(1.5,))}, bytes(6)),
    "places that are texts": safetensors({"a": one(offsets=("0", "4"))}, bytes(4)),
    "places that are fractions": safetensors({"a": one(offsets=(0.0, 4.0))}, bytes(4)),
    "three places": safetensors({"a": one(offsets=(0, 4, 8))}, bytes(4)),
    "no places": safetensors({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "an entry that is a number": safetensors({"a": 3}),
    "a header that is a list": safetensors([1]),
    "a header that is no JSON": safetensors(b"{{"),
    "a deep header": safetensors(b"[" * 200_000),
    "no header": b"",
    "half a length": b"\1\0\0",
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
def test_arrays_that_cannot_be_are_refused_without_taking_memory(case: str, bundle: Path) -> None:
    import tracemalloc

    (bundle / "model.safetensors").write_bytes(HEADERS[case])
    resealed(bundle, lambda manifest: None)
    tracemalloc.start()
    with pytest.raises(RunError, match="contradicts itself"):
        read_bundle(bundle)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES


def test_arrays_are_read_as_another_library_reads_them(whole: Path) -> None:
    found, expected = read_arrays(whole / "model.safetensors"), load_file(whole / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with pytest.raises(ValueError, match="read-only"):
        found["item.rows"][0] = 1


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", ".", "", "a\0b", "sub/../ids.json", "x" * 5000, "\ud800"]
)
def test_a_manifest_cannot_make_us_read_other_files(bundle: Path, name: str) -> None:
    (bundle.parent / "secret").write_text("secret")
    manifest = json.loads((bundle / "manifest.json").read_text())
    seal(bundle, manifest)
    manifest["files"][name] = "0"
    rewritten(bundle, manifest)
    refused(bundle, "do not trust it|has lost")


def rewritten(bundle: Path, manifest: Any) -> None:
    """The manifest and its hash, whatever files there are."""
    import hashlib

    data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    (bundle / "manifest.json").write_bytes(data)
    (bundle / "manifest.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  manifest.json\n")


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[", b"[]", b"3", b"{}", b"[" * 100_000, b"\xff", b'{"format": 2}', b'{"format": 2, "files": []}',
     b'{"format": 2, "files": {}}', b'{"format": "2", "files": {}}', b'{"format": null, "files": {}}'],
    ids=lambda manifest: str(manifest[:24]),
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(bundle: Path, manifest: bytes) -> None:
    rewritten(bundle, manifest)
    refused(bundle)


def test_a_number_that_is_none_is_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name in ("mmr", "history_recency", "new_item_prior"):
        for value in (float("nan"), float("inf")):
            rewritten(bundle, {**manifest, name: value})
            refused(bundle, f"contradicts itself .*{name} is (nan|inf)")


def test_a_path_that_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "nowhere", tmp_path / "file", tmp_path):
        refused(path, "is not a bundle: .*`evorec export` writes one")
