"""Lists for a table of users: those of `recommend`, in order, whole or not at all."""

import random
from pathlib import Path
from typing import Any

import exported
import polars as pl
import pytest
from exported import Made

from evorec.errors import ConfigError, DataError, disk_is_full
from evorec.serving import batch
from evorec.serving.batch import recommend_table
from evorec.serving.queries import Item, ListOptions, User

pytestmark = pytest.mark.xdist_group("bundles")  # a worker process exports them once


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return exported.numbers(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return exported.odd(tmp_path_factory.getbasetemp())


def written(folder: Path, **columns: Any) -> Path:
    pl.DataFrame(columns).write_parquet(folder / "users.parquet")
    return folder / "users.parquet"


def by_line(path: Path) -> dict[int, list[tuple[Any, float]]]:
    found: dict[int, list[tuple[Any, float]]] = {}
    for line, rank, item, score in pl.read_parquet(path).select("line", "rank", "item", "score").iter_rows():
        found.setdefault(line, []).append((item, score))
        assert rank == len(found[line]), "ranks count from 1, in order"
    return found


def check(made: Made, folder: Path, users: list[Any], options: dict[str, Any], **columns: Any) -> None:
    out = folder / "lists.parquet"
    assert recommend_table(made.recommender, written(folder, **columns), out, ListOptions(**options)) == len(users)
    expected = made.recommender.recommend(users, **options)
    assert list(by_line(out).items()) == [(line, pairs) for line, pairs in enumerate(expected) if pairs]
    names = pl.read_parquet(out).unique("line", maintain_order=True)
    asked = columns.get("user", [None] * len(users))
    assert dict(names.select("line", "user").iter_rows()) == {line: asked[line] for line in names["line"]}
    assert sorted(path.name for path in folder.iterdir()) == ["lists.parquet", "users.parquet"]


def test_known_and_unknown_users_get_their_lists_in_order(numbers: Made, tmp_path: Path) -> None:
    ids = [5, 10**9, 3, 5, None, 0]
    check(numbers, tmp_path, [5, 10**9, 3, 5, User(), 0], {}, user=ids)


def test_ids_of_text(odd: Made, tmp_path: Path) -> None:
    check(odd, tmp_path, ["5", "nobody", "31"], {"k": 3, "seen": True}, user=["5", "nobody", "31"])


def test_ids_of_numbers_where_the_model_has_texts(odd: Made, tmp_path: Path) -> None:
    check(odd, tmp_path, [5, 31], {"mmr": 0.4}, user=[5, 31])


def test_a_table_may_have_liked_items_features_context_and_excluded_items(numbers: Made, tmp_path: Path) -> None:
    users = [
        User(None, [3, 4], {"segment": 2, "hobbies": ["t1", "t3"]}, {"hour": 7}, [9]),
        User(2, (), {"tenure_days": 300.5}),
        User(None, [1]),
        User(1, exclude=[1, 2, 3]),
    ]
    check(
        numbers, tmp_path, users, {"k": 7, "where": {"category": [1, 2, 3, 4, 5, 6]}},
        user=[None, 2, None, 1], liked=[[3, 4], None, [1], []], segment=[2, None, None, None],
        hobbies=[["t1", "t3"], None, None, None], hour=[7, None, None, None],
        tenure_days=[None, 300.5, None, None], exclude=[[9], None, None, [1, 2, 3]],
    )  # fmt: skip


def test_a_table_of_new_users_needs_no_ids(numbers: Made, tmp_path: Path) -> None:
    check(numbers, tmp_path, [User(liked=[3]), User(liked=[4, 5])], {}, liked=[[3], [4, 5]])


def test_empty_lists_have_no_rows(numbers: Made, tmp_path: Path) -> None:
    check(numbers, tmp_path, [1, 2], {"only": []}, user=[1, 2])


def test_chunks_are_joined_in_order(numbers: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "USERS_PER_CHUNK", 4)
    told: list[int] = []
    ids = [n % 60 for n in range(11)]
    users = written(tmp_path, user=ids)
    assert (
        recommend_table(numbers.recommender, users, tmp_path / "out.parquet", ListOptions(), progress=told.append) == 11
    )
    assert told == [4, 8, 11]
    found, expected = by_line(tmp_path / "out.parquet"), numbers.recommender.recommend(ids)
    for line, pairs in enumerate(expected):
        exported.same(found[line], pairs)


def test_new_items_of_another_kind_of_id_can_be_listed(numbers: Made, tmp_path: Path) -> None:
    recommender = numbers.recommender.with_items([Item("new", {"category": 1})])
    users = written(tmp_path, user=[1])
    recommend_table(recommender, users, tmp_path / "out.parquet", ListOptions(k=51, seen=True))
    assert "new" in pl.read_parquet(tmp_path / "out.parquet")["item"].to_list()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"users": [1]}, r"needs a column user or liked, got users"),
        (
            {"user": [1], "colour": [2]},
            r"has a column 'colour' that the model does not know; it knows: exclude, hobbies",
        ),
        ({"user": []}, r"users\.parquet has no user"),
        ({"user": [1.5]}, r"an id must be an integer or a text, got 1\.5"),
        ({"liked": ["12"]}, r"column liked of .* must have lists of items, got String"),
        ({"user": [1], "exclude": [3]}, r"column exclude of .* must have lists of items, got Int64"),
        ({"user": [1], "tenure_days": ["long"]}, r"feature tenure_days must be a number, got 'long'"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(
    numbers: Made, tmp_path: Path, columns: dict[str, Any], words: str
) -> None:
    users = written(tmp_path, **columns)
    with pytest.raises(DataError, match=words):
        recommend_table(numbers.recommender, users, tmp_path / "out.parquet", ListOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["users.parquet"]


def test_an_existing_folder_is_not_overwritten(numbers: Made, tmp_path: Path) -> None:
    users = written(tmp_path, user=[1])
    for out in (users, tmp_path):
        with pytest.raises(ConfigError, match="exists already and is not overwritten"):
            recommend_table(numbers.recommender, users, out, ListOptions())


def test_a_broken_table_is_refused_and_leaves_nothing(numbers: Made, tmp_path: Path) -> None:
    rng = random.Random(0)
    pl.DataFrame({"user": [rng.randrange(60) for _ in range(5000)]}).write_parquet(tmp_path / "users.parquet")
    whole = (tmp_path / "users.parquet").read_bytes()
    zeroed = whole[:40] + bytes(600) + whole[640:]  # the end is whole, a page is not
    for broken in (b"", b"PAR1", whole[:-5], whole[: len(whole) // 2], b"user\n1\n", zeroed):
        (tmp_path / "users.parquet").write_bytes(broken)
        with pytest.raises(DataError, match=r"users\.parquet cannot be read as Parquet"):
            recommend_table(numbers.recommender, tmp_path / "users.parquet", tmp_path / "out.parquet", ListOptions(k=1))
        assert [path.name for path in tmp_path.iterdir()] == ["users.parquet"]
    with pytest.raises(DataError, match=r"nowhere\.parquet cannot be read as Parquet"):
        recommend_table(numbers.recommender, tmp_path / "nowhere.parquet", tmp_path / "out.parquet", ListOptions())


def test_an_interrupted_command_leaves_nothing(numbers: Made, tmp_path: Path) -> None:
    users = written(tmp_path, user=[1, 2, 3])

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recommend_table(numbers.recommender, users, tmp_path / "out.parquet", ListOptions(), progress=killed)
    assert [path.name for path in tmp_path.iterdir()] == ["users.parquet"]


def test_brackets_in_paths_are_letters(numbers: Made, tmp_path: Path) -> None:
    folder = tmp_path / "in [x]*?"
    folder.mkdir()
    users, out = written(folder, user=[1, 2, 3]), folder / "lists [x].parquet"
    assert recommend_table(numbers.recommender, str(users), str(out), ListOptions()) == 3
    assert pl.read_parquet(out, glob=False)["user"].unique().sort().to_list() == [1, 2, 3]
    assert sorted(folder.iterdir()) == [out, users]


def test_a_full_disk_is_not_a_fault_of_the_table(
    numbers: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise pl.exceptions.ComputeError("No space left on device (os error 28)")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    users = tmp_path / "users.parquet"
    pl.LazyFrame({"user": [1]}).sink_parquet(users)
    with pytest.raises(pl.exceptions.ComputeError) as error:
        recommend_table(numbers.recommender, users, tmp_path / "out.parquet", ListOptions())
    assert disk_is_full(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["users.parquet"]
