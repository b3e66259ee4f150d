"""Lists for a table of users: those of `recommend`, in order, whole or not at all."""

import json
import random
from decimal import Decimal
from functools import partial
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
    counts = recommend_table(made.recommender, written(folder, **columns), out, ListOptions(**options))
    assert counts.users == len(users)
    expected = made.recommender.recommend(users, **options)
    assert list(by_line(out).items()) == [(line, pairs) for line, pairs in enumerate(expected) if pairs]
    names = pl.read_parquet(out).unique("line", maintain_order=True)
    asked = columns.get("user", [None] * len(users))
    assert dict(names.select("line", "user").iter_rows()) == {line: asked[line] for line in names["line"]}
    known = [made.recommender.knows(user.id if isinstance(user, User) else user) for user in users]
    assert dict(names.select("line", "known").iter_rows()) == {line: known[line] for line in names["line"]}
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
    recommend_table(numbers.recommender, users, tmp_path / "out.parquet", ListOptions(), progress=told.append)
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
            r"users\.parquet has a column 'colour' that the model does not know; it knows: exclude, hobbies",
        ),
        ({"user": []}, r"users\.parquet has no rows"),
        ({"user": [1.0, None, 1.5]}, r"row 3, column user must be a whole number or a text, got 1\.5"),
        ({"user": [1e17]}, r"row 1, column user must be a whole number or a text, got 1e17|1e\+17"),
        ({"user": [Decimal("1.00"), Decimal("1.50")]}, r"row 2, column user must be a whole number .* got 1\.5"),
        ({"liked": ["[1]", "12"]}, r"row 2, column liked must be a list of ids such as \[1, 2\] .* write \['12'\]"),
        ({"liked": [[1.0], [1.0, 2.5]]}, r"row 2, column liked must be a list of ids .* whole number or a text, got 2"),
        ({"user": [1], "exclude": [3]}, r"row 1, column exclude must be a list of ids .* got 3; write \[3\]"),
        ({"user": [1, 2], "tenure_days": ["1", "long"]}, r"row 2, column tenure_days must be a finite number, got 'lo"),
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
    with pytest.raises(ConfigError, match=r"--out must end in \.parquet, \.csv, \.tsv, \.jsonl, got lists\.xlsx"):
        recommend_table(numbers.recommender, users, tmp_path / "lists.xlsx", ListOptions())
    for out in (users, tmp_path):
        with pytest.raises(ConfigError, match="exists already and is not overwritten"):
            recommend_table(numbers.recommender, users, out, ListOptions())


CSV_USERS = """user,liked,segment,hobbies,tenure_days
1,,2,"[""t1"", ""t3""]",300.5
007,"[3, 4]",,t1,
,"[""5""]",,,
"""
TEXT_TABLES = {
    "users.csv": CSV_USERS,
    "users.tsv": CSV_USERS.replace(", ", "; ").replace(",", "\t").replace("; ", ", "),
    "users.jsonl": """{"user": 1, "segment": 2, "hobbies": ["t1", "t3"], "tenure_days": 300.5}

{"user": "007", "liked": [3, 4], "hobbies": "t1"}
{"liked": ["5"]}
""",
}
"""The same users: a known user with features, an unknown user, whose id a number would be, and a new user."""


@pytest.mark.parametrize("name", TEXT_TABLES)
def test_tables_of_text_are_read_and_written_as_parquet_is(numbers: Made, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TEXT_TABLES[name])
    users = [
        User(1, features={"segment": 2, "hobbies": ["t1", "t3"], "tenure_days": 300.5}),
        User("007", [3, 4], {"hobbies": ["t1"]}),
        User(liked=[5]),
    ]
    expected = numbers.recommender.recommend(users, k=2)
    read = {".csv": pl.read_csv, ".tsv": partial(pl.read_csv, separator="\t"), ".jsonl": pl.read_ndjson}
    out = tmp_path / f"lists{Path(name).suffix}"
    counts = recommend_table(numbers.recommender, tmp_path / name, out, ListOptions(k=2))
    assert (counts.users, counts.unknown, counts.without_id, counts.liked) == (3, 1, 1, 3)
    frame = read[out.suffix](out)
    assert frame.columns == ["line", "user", "known", "rank", "item", "score"]
    assert frame["known"].to_list() == [True, True, False, False, False, False]
    assert frame["line"].to_list() == [0, 0, 1, 1, 2, 2]
    exported.same(list(frame.select("item", "score").iter_rows()), [pair for pairs in expected for pair in pairs])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("u.csv", "user\n1.0\n1.5\n", r"u\.csv, line 3, column user must be a whole number or a text, got '1\.5'"),
        ("u.csv", "user\n653247040368672000.0\n", r"line 2, column user must be .* a float may have lost digits"),
        ("u.jsonl", '{"user": "a"}\n{"user": 1e17}\n', r"line 2, column user must be .* a float may have lost digits"),
        (
            "u.jsonl",
            '{"liked": [1]}\n{"liked": [653247040368672000.0]}\n',
            r"line 2, column liked .* an id must be exact",
        ),
        ("u.csv", "user,tenure_days\n1,x\n", r"line 2, column tenure_days must be a finite number, got 'x'"),
        ("u.csv", "usr\n1\n", r"needs a column user or liked, got usr"),
        ("u.jsonl", '{"usr": 1}\n', r"needs a column user or liked, got usr"),
    ],
)
def test_a_value_of_a_text_table_is_refused_with_its_line(
    numbers: Made, tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        recommend_table(numbers.recommender, tmp_path / name, tmp_path / "out.csv", ListOptions())


def test_whole_floats_and_decimals_are_the_ids_that_they_were(numbers: Made, tmp_path: Path) -> None:
    """Texts keep their spelling, unless they are a whole column of floats in a text table, as in a log."""
    expected = [(1, True), (2, True), (None, False)]
    csv = tmp_path / "users.csv"
    csv.write_text('user,liked\n1.0,\n2.0,\n,"[3.0]"\n')
    columns: list[list[Any]] = [[1.0, 2.0, None], [1.0, 2.0, float("nan")], [Decimal("1.00"), Decimal(2), None]]
    tables = [csv, *(partial(written, user=column) for column in columns)]
    for n, table in enumerate(tables):
        out = tmp_path / f"{n}.parquet"
        users = table if isinstance(table, Path) else table(tmp_path)
        counts = recommend_table(numbers.recommender, users, out, ListOptions(k=1))
        assert pl.read_parquet(out).select("user", "known").rows() == expected
        assert (counts.unknown, counts.without_id, counts.liked_unknown) == (0, 1, 0)
    spelled = ["7", "007", "+7", "7.0", " 7"]
    recommend_table(numbers.recommender, written(tmp_path, user=spelled), tmp_path / "texts.parquet", ListOptions(k=1))
    assert pl.read_parquet(tmp_path / "texts.parquet")["known"].to_list() == [True, False, False, False, False]


def test_large_ids_are_texts_in_json_lines(numbers: Made, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    recommend_table(numbers.recommender, written(tmp_path, user=[2**53, 1]), out, ListOptions(k=1))
    assert [json.loads(line)["user"] for line in out.read_text().splitlines()] == [str(2**53), "1"]


def test_a_broken_table_is_refused_and_leaves_nothing(numbers: Made, tmp_path: Path) -> None:
    rng = random.Random(0)
    pl.DataFrame({"user": [rng.randrange(60) for _ in range(5000)]}).write_parquet(tmp_path / "users.parquet")
    whole = (tmp_path / "users.parquet").read_bytes()
    zeroed = whole[:40] + bytes(600) + whole[640:]  # the end is whole, a page is not
    for broken in (b"", b"PAR1", whole[:-5], whole[: len(whole) // 2], b"user\n1\n", zeroed):
        (tmp_path / "users.parquet").write_bytes(broken)
        with pytest.raises(DataError, match=r"users\.parquet"):
            recommend_table(numbers.recommender, tmp_path / "users.parquet", tmp_path / "out.parquet", ListOptions(k=1))
        assert [path.name for path in tmp_path.iterdir()] == ["users.parquet"]
    with pytest.raises(DataError, match=r"nowhere\.parquet is not a file; --users reads a CSV"):
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
    assert recommend_table(numbers.recommender, str(users), str(out), ListOptions()).users == 3
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
