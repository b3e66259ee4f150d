"""The command init: files of many kinds become a configuration that can be used as it is."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evorec.cli import main
from evorec.config import load_config, recommender_config

START = 1_700_000_000
TINY = (
    "training.steps=2", "training.batch_size=64", "training.retrieval_batch=16", "search.population=4",
    "search.generations=1", "search.surrogate=none", "constraints=[]",
)  # fmt: skip
N_USERS, N_ITEMS = 40, 30


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(n: int = 900, seed: int = 0) -> Iterator[tuple[int, int, int, random.Random]]:
    """User, item and second of some interactions, in order of time."""
    rng = random.Random(seed)
    for row in range(n):
        yield rng.randrange(N_USERS), int(N_ITEMS * rng.random() ** 2), START + 700 * row + rng.randrange(700), rng


def lines(head: Sequence[str], values: Iterator[Sequence[Any]], separator: str = ",") -> str:
    written = [separator.join(map(str, value)) for value in values]
    return "\n".join(([separator.join(head)] if head else []) + written) + "\n"


def kind(rng: random.Random, kinds: Sequence[str]) -> str:
    return rng.choices(kinds, [1 / 2**place for place in range(len(kinds))])[0]


def iso(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}+01:00"


GENRES = ("Drama", "Comedy", "Crime", "War")


def shop() -> dict[str, bytes]:
    """Two dialects, a mark of missing prices, lost ids, repeated rows, titles with commas."""
    head = ("event_time", "visitor_id", "event_type", "product_id", "device", "quantity")
    kinds = ("view", "add_to_cart", "purchase", "remove_from_cart")
    events = [
        (
            iso(t),
            f"v{u:03x}" * (row % 90 > 0),
            kind(rng, kinds),
            f"P-{7 * i}" * (row % 70 > 0),
            ("app", "web")[u % 2],
            "",
        )
        for row, (u, i, t, rng) in enumerate(rows())
    ]
    events += events[-3:]
    products = [
        (f"P-{7 * i}", GENRES[i % 4], "N/A" if i == 5 else 9.5 + i, f'"Boot {i}, {("red", "olive green")[i % 2]}"', day)
        for i, day in ((i, f"2024-01-{1 + i:02}") for i in range(N_ITEMS))
    ]
    products.append(products[0])
    customers = [(f"v{u:03x}", ("DE", "AT", "")[u % 3], 20 + u) for u in range(N_USERS - 5)]
    return {
        "events_1.csv": b"\xef\xbb\xbf" + lines(head, iter(events[:500])).encode(),
        "events_2.csv": lines(head, iter(events[500:]), ";").encode(),
        "products.csv": lines(("product_id", "category", "price", "title", "launched"), iter(products)).encode(),
        "customers.csv": lines(("visitor_id", "country", "age"), iter(customers)).encode(),
    }


def retailrocket() -> dict[str, bytes]:
    kinds = ("view", "addtocart", "transaction")
    events = ((1000 * t, u, kind(rng, kinds), i, "") for u, i, t, rng in rows())
    return {"events.csv": lines(("timestamp", "visitorid", "event", "itemid", "transactionid"), events).encode()}


def films() -> dict[str, bytes]:
    """Separators of two characters, no header lines, another encoding than UTF-8."""
    ratings = lines((), ((1 + u, 1 + i, rng.randint(1, 5), t) for u, i, t, rng in rows()), "::")
    movies = lines((), ((1 + i, f"Café {i} (1999)", "|".join(GENRES[: 1 + i % 4])) for i in range(N_ITEMS)), "::")
    return {"ratings.dat": ratings.encode(), "movies.dat": movies.encode("cp1252")}


def reviews() -> dict[str, bytes]:
    objects = [
        {
            "overall": float(rng.randint(1, 5)),
            "reviewerID": f"A{u}",
            "asin": f"B{i:03}",
            "unixReviewTime": t,
            "text": "ok",
        }
        for u, i, t, rng in rows()
    ]
    return {"reviews.jsonl": "".join(json.dumps(one) + "\n" for one in objects).encode()}


def impressions() -> dict[str, bytes]:
    head = ("user_id", "video_id", "time_ms", "is_click", "is_like", "is_hate", "is_rand", "tab", "play_time_ms")
    log = (
        (u, i, 1000 * t, *(int(rng.random() < share) for share in (0.4, 0.2, 0.1)), 0, u % 4, rng.randrange(9000))
        for u, i, t, rng in rows()
    )
    videos = ((i, 100 + i // 3, "1,2" if i % 2 else i % 5, 1000 * i + 7) for i in range(N_ITEMS))
    return {
        "log.csv": lines(head, log).encode(),
        "videos.csv": lines(
            ("video_id", "author_id", "tag", "duration"), (map(_quoted, video) for video in videos)
        ).encode(),
    }


def _quoted(value: Any) -> str:
    return f'"{value}"' if "," in str(value) else str(value)


def kinds_in_files() -> dict[str, bytes]:
    """A file for each kind of event, with different columns and no header line."""
    found = [(u, iso(t).replace("+01:00", ".123Z"), i) for u, i, t, _ in rows()]
    return {
        "shop-clicks.dat": lines((), ((u, t, i, "S") for u, t, i in found)).encode(),
        "shop-buys.dat": lines((), ((u, t, i, 9 + i, 1) for u, t, i in found[::3])).encode(),
    }


def plays() -> dict[str, bytes]:
    """Counts, without times."""
    counts = {(u, i): rng.randint(1, 3000) for u, i, _, rng in rows()}
    return {
        "user_artists.dat": lines(
            ("userID", "artistID", "weight"), ((*pair, n) for pair, n in counts.items()), "\t"
        ).encode()
    }


def sequences() -> dict[str, bytes]:
    rng = random.Random(1)
    own = ([u, *rng.choices(range(N_ITEMS), k=5 + u % 7)] for u in range(N_USERS))
    attributes = {str(i): [1 + i % 3, 9 + i % 5] for i in range(N_ITEMS)}
    return {"sequences.txt": lines((), own, " ").encode(), "item_attributes.json": json.dumps(attributes).encode()}


def adjacency() -> dict[str, bytes]:
    rng = random.Random(1)
    own = [rng.sample(range(N_ITEMS), 8 + u % 5) for u in range(N_USERS)]
    return {
        "train.txt": lines((), ([u, *items[:-2]] for u, items in enumerate(own)), " ").encode(),
        "test.txt": lines((), ([u, *items[-2:]] for u, items in enumerate(own)), " ").encode(),
    }


def parts() -> dict[str, bytes]:
    found = [(u, i, t) for u, i, t, _ in rows()]
    return {
        "train.tsv": lines((), iter(found[:600]), "\t").encode(),
        "validation.tsv": lines((), iter(found[600:750]), "\t").encode(),
        "test.tsv": lines((), iter(found[750:]), "\t").encode(),
    }


def places() -> dict[str, bytes]:
    """Objects and missing values inside JSON lines."""
    reviews = (
        {"user_id": f"u{u}", "business_id": f"b{i}", "stars": rng.randint(1, 5), "date": iso(t)}
        for u, i, t, rng in rows()
    )
    own = (
        {
            "business_id": f"b{i}",
            "name": f"The old bar {i}",
            "attributes": {"wifi": i % 2} if i else None,
            "hours": None,
        }
        for i in range(N_ITEMS)
    )
    return {
        name: "".join(json.dumps(one) + "\n" for one in found).encode()
        for name, found in (("review.json", reviews), ("business.json", own))
    }


def listens() -> dict[str, bytes]:
    """Texts only, without a header line."""
    return {
        "listens.tsv": lines(
            (), ((f"user_{u}", iso(t), f"artist {i % 5}", f"track {i}") for u, i, t, _ in rows()), "\t"
        ).encode()
    }


def invoices() -> dict[str, bytes]:
    """Dates of two digits for the year, and rows without a customer."""
    head = ("InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "CustomerID")
    found = (
        (
            row // 4,
            f"{i}A",
            rng.randint(1, 9),
            f"{datetime.fromtimestamp(t, UTC):%m/%d/%y %H:%M}",
            f"{u}.0" if u % 7 else "",
        )
        for row, (u, i, t, rng) in enumerate(rows())
    )
    return {"retail.csv": lines(head, found).encode()}


def sessions() -> dict[str, bytes]:
    """Most rows have a session and no user."""
    head = ("sessionId", "userId", "itemId", "eventdate")
    found = ((u, u if u % 5 == 0 else "NA", i, iso(t)[:10]) for u, i, t, _ in rows())
    return {"views.csv": lines(head, found, ";").encode()}


SEARCHED = (shop,)
"""The others pass the checks of a search, too, which `validate` makes."""
KINDS: Mapping[Callable[[], dict[str, bytes]], Mapping[str, Any]] = {
    shop: {"user": "visitor_id", "item": "product_id", "time": "event_time", "event": "event_type", "split": "time",
           "ranked": {"add_to_cart", "purchase"}, "target": "view"},
    retailrocket: {"user": "visitorid", "item": "itemid", "time": "timestamp", "event": "event", "target": "view"},
    films: {"user": "user", "item": "item", "time": "time", "rating": "rating", "target": "liked"},
    reviews: {"user": "reviewerID", "item": "asin", "time": "unixReviewTime", "rating": "overall", "target": "liked"},
    impressions: {"user": "user_id", "item": "video_id", "ranked": {"click", "like"}, "target": "click"},
    kinds_in_files: {"user": "user", "item": "item", "time": "time", "target": "clicks"},
    plays: {"user": "userID", "item": "artistID", "rating": "weight", "target": "often", "split": "random"},
    places: {"user": "user_id", "item": "business_id", "time": "date", "target": "liked",
             "items": "business.json, by business_id"},
    listens: {"user": "user", "item": "item", "time": "time", "target": "interaction"},
    invoices: {"user": "CustomerID", "item": "StockCode", "time": "InvoiceDate"},
    sessions: {"user": "sessionId", "item": "itemId", "time": "eventdate"},
    sequences: {"split": "leave_last_out", "items": "item_attributes.json, by key"},
    adjacency: {"split": "given"},
    parts: {"user": "user", "item": "item", "time": "time", "split": "given"},
}  # fmt: skip


def written(files: Mapping[str, bytes], folder: Path) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def settings(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--set", text)]


@pytest.mark.parametrize("files", KINDS, ids=lambda files: files.__name__)
def test_a_written_configuration_is_used_as_it_is(
    files: Callable[[], dict[str, bytes]], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = files.__name__
    written(files(), here / name)
    assert main(["init", name, "--format", "json"]) == 0
    out, err = capsys.readouterr()
    roles = json.loads(out)["roles"]
    for role, wanted in KINDS[files].items():
        found = roles[role]
        assert wanted <= set(found.split(", ")) if isinstance(wanted, set) else wanted == found, role
    assert f"next: evorec data describe {name}.toml" in err
    assert "cannot be read" not in err
    for command in (["data", "describe"], ["validate"]):
        assert main([*command, f"{name}.toml", "-q"]) == 0, capsys.readouterr().err
    if files in SEARCHED:
        assert main(["search", f"{name}.toml", "-q", *settings(*TINY)]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("files", [shop, plays, adjacency], ids=lambda files: files.__name__)
def test_every_alternative_can_be_used_by_removing_its_mark(files: Callable[[], dict[str, bytes]], here: Path) -> None:
    written(files(), here / "data")
    assert main(["init", "data", "-q"]) == 0
    found = Path("data.toml").read_text().splitlines()
    is_setting = [bool(re.fullmatch(r"(# )?([\w-]+|\"[^\"]+\") = .*", line)) for line in found]
    is_head = [bool(re.fullmatch(r"(# )?\[.*\]", line)) for line in found]
    head = [max((n for n in range(number) if is_head[n]), default=None) for number in range(len(found))]
    alternatives = [n for n, line in enumerate(found) if is_setting[n] and line.startswith("# ")]
    assert len(alternatives) > 8
    for number in alternatives:
        changed = list(found)
        key = found[number].removeprefix("# ").partition(" = ")[0]
        for other, line in enumerate(found):
            if head[other] == head[number] and line.startswith(f"{key} = "):
                changed[other] = f"# {line}"
        for line in filter(None, (number, head[number])):
            changed[line] = found[line].removeprefix("# ")
        Path("changed.toml").write_text("\n".join(changed))
        load_config(Path("changed.toml"))


def test_columns_that_cannot_be_recognised_are_named_by_options(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = lines(
        ("who", "what", "n", "doing", "done"),
        ((f"a{u}", f"b{i}", rng.random(), kind(rng, ("x", "y")), iso(t)) for u, i, t, rng in rows()),
    )
    (here / "log.csv").write_text(text)
    assert main(["init", "log.csv"]) == 2
    err = capsys.readouterr().err
    assert "log.csv has who, what, n, doing, done" in err
    assert "--user COLUMN and --item COLUMN" in err
    assert not (here / "log.toml").exists()
    assert main(["init", "log.csv", "--user", "whom", "--item", "what"]) == 2
    assert "--user must name a column of the files, got 'whom'" in capsys.readouterr().err
    assert main(["init", "log.csv", "--user", "who", "--item", "what", "--event", "doing", "--time", "done"]) == 0
    log = recommender_config(load_config(Path("log.toml"))).data.log
    assert (log.user, log.item, log.time, log.tasks) == ("who", "what", "done", {"x": "doing == x", "y": "doing == y"})


def test_a_published_data_set_names_its_reader(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    properties = lines(
        ("timestamp", "itemid", "property", "value"), ((1000 * t, i, "categoryid", 3) for _, i, t, _ in rows())
    )
    files = {f"item_properties_part{part}.csv": properties.encode() for part in (1, 2)}
    written(retailrocket() | files | {"category_tree.csv": b"categoryid,parentid\n3,1\n"}, here / "rocket")
    written(shop(), here / "shop")
    for name, is_published in (("rocket", True), ("shop", False)):
        assert main(["init", name]) == 0
        err, text = capsys.readouterr().err, Path(f"{name}.toml").read_text()
        assert ("data.reader = 'retailrocket' knows these files" in " ".join(err.split())) == is_published
        assert ('# reader = "retailrocket" knows these files' in text) == is_published
    Path("rocket.toml").write_text('problem = "feed"\n[data]\nreader = "retailrocket"\npath = "rocket"\n')
    assert main(["data", "describe", "rocket.toml", "-q"]) == 0


def test_tables_of_users_and_items_may_lack_ids(here: Path) -> None:
    files = shop()
    files["products.csv"] += b',Drama,7,"No id, no product",2024-01-01\n'
    written(files, here / "shop")
    assert main(["init", "shop", "-q"]) == 0
    assert 'missing_ids = "drop"' in Path("shop.toml").read_text().partition("[data.items]")[2]
    assert main(["validate", "shop.toml", "-q"]) == 0


def test_rows_of_a_log_may_lack_times(here: Path) -> None:
    files = retailrocket()
    assert main(["init", str(written(files, here / "shop")), "-q"]) == 0
    assert "missing_times" not in Path("shop.toml").read_text()
    (name,) = (name for name in files if name.startswith("events"))
    head, *events = files[name].decode().splitlines()
    events[3:6] = [",".join([mark, *events[3].split(",")[1:]]) for mark in ("", "N/A", "0")]
    (here / "shop" / name).write_text("\n".join([head, *events]))
    assert main(["init", "shop", "--force", "-q"]) == 0
    assert 'missing_times = "drop"' in Path("shop.toml").read_text()
    assert main(["validate", "shop.toml", "-q"]) == 0


def test_times_far_from_the_others_mean_missing_values(here: Path) -> None:
    events = [(u, i, iso(t)[:19], t % 2) for u, i, t, _ in rows()]
    marked = [*events, (1, 2, "0001-01-01T00:00:00", 1), (3, 4, "1970-01-01T00:00:00", 0)]
    (here / "log.csv").write_text(lines(("user_id", "item_id", "time", "click"), iter(marked)))
    assert main(["init", "log.csv", "--out", "x.toml", "-q"]) == 0
    read = recommender_config(load_config(Path("x.toml"))).data.log
    assert (read.time, read.missing_times) == ("time", "drop")
    assert read.missing[-2:] == ("0001-01-01T00:00:00", "1970-01-01T00:00:00")
    assert main(["validate", "x.toml", "-q"]) == 0


@pytest.mark.parametrize(("suffix", "setting"), [("csv", "ragged"), ("jsonl", "broken")])
def test_lines_of_a_log_may_be_broken(here: Path, suffix: str, setting: str) -> None:
    events = [(u, i, iso(t), t % 2) for u, i, t, _ in rows()]
    head = ("user_id", "item_id", "time", "click")
    text = lines(head, iter(events)) + "1,2\n"
    if suffix == "jsonl":
        text = (
            "".join(json.dumps(dict(zip(head, event, strict=True))) + "\n" for event in events) + '{"user_id": 1, "it'
        )
    (here / f"log.{suffix}").write_text(text)
    assert main(["init", f"log.{suffix}", "--out", "x.toml", "-q"]) == 0
    assert f'{setting} = "drop"' in Path("x.toml").read_text()
    assert main(["validate", "x.toml", "-q"]) == 0


def test_files_written_in_different_ways_are_named_with_theirs(here: Path) -> None:
    written(shop(), here / "shop")
    assert main(["init", "shop", "-q"]) == 0
    assert re.search(r"# .*events_1\.csv: .*; events_2\.csv: ", Path("shop.toml").read_text())


def test_a_file_is_replaced_only_by_force(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(retailrocket(), here / "shop")
    (here / "shop.toml").write_text("mine")
    assert main(["init", "shop"]) == 2
    assert "shop.toml exists already" in capsys.readouterr().err
    assert (here / "shop.toml").read_text() == "mine"
    assert main(["init", "shop", "--out", "conf/shop.toml", "-q"]) == 0
    assert recommender_config(load_config(Path("conf/shop.toml"))).data.path == str(here / "shop")
    assert main(["init", "shop", "--force", "-q"]) == 0
    assert (here / "shop.toml").read_text() != "mine"


def test_guesses_that_may_be_wrong_are_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A day may be a month, codes have no names, and a further file has no role."""
    head = ("user_id", "item_id", "date", "action")
    days = (f"0{1 + t // 86400 % 9}/0{1 + u % 9}/2023" for u, _, t, _ in rows(seed=2))
    log = ((u, i, day, kind(rng, "123")) for (u, i, _, rng), day in zip(rows(seed=2), days, strict=True))
    (here / "log.csv").write_text(lines(head, log))
    (here / "other.csv").write_text("a,b\n1,2\n3,4\n")
    assert main(["init", "log.csv", "other.csv", "--out", "x.toml"]) == 0
    err, text = " ".join(capsys.readouterr().err.split()), Path("x.toml").read_text()
    assert "other.csv is left out" in err
    assert "kinds of events in 'action' are numbers" in err
    assert "%m/%d/%Y fits all times, too" in err
    assert 'time_unit = "%d/%m/%Y"' in text
    assert '# time_unit = "%m/%d/%Y"' in text
