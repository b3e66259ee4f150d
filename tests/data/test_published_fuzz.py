"""Whatever happens to a published file on its way: its reader gives tables, or a `DataError` that names a file."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from data import (
    test_reader_aliccp,
    test_reader_aliexpress,
    test_reader_amazon,
    test_reader_kuairand,
    test_reader_kuairec,
    test_reader_movielens,
    test_reader_retailrocket,
)

from evorec.data.readers import aliccp, aliexpress, amazon, kuairand, kuairec, movielens, retailrocket
from evorec.data.tables import Tables
from evorec.errors import DataError

N_MUTATIONS = 40
TOKENS = (
    *("", "nan", "inf", "-1", "0", "x", "é", "null", "true", "[]", "{}", "1e400", "1.5", "20201399", "[1,2", "\\", "|"),
    *(
        "99999999999999999999",
        "9223372036854775807",
        "-9223372036854775808",
        "\x00",
        '"',
        "'",
        ",",
        "\n",
        "\r",
        "\ufeff",
    ),
)


def kuairec_files(folder: Path) -> None:
    log = test_reader_kuairec.PUBLISHED + test_reader_kuairec.LONG + test_reader_kuairec.TIMELESS
    test_reader_kuairec.write(folder, log)
    (folder / "user_features.csv").write_text(test_reader_kuairec.USERS)


def retailrocket_files(folder: Path) -> None:
    event = test_reader_retailrocket.event
    events = event(0, 1, "view", 355908) + event(1, 1, "addtocart", 355908) + event(80, 2, "transaction", 5)
    test_reader_retailrocket.write(folder, events)


def amazon_files(folder: Path) -> None:
    lines, review = test_reader_amazon.lines, test_reader_amazon.REVIEW_2023
    files = {
        "Books__jsonl": lines(review, {**review, "user_id": "B"}),
        "meta_Books__jsonl": lines(test_reader_amazon.ITEM_2023),
    }
    test_reader_amazon.write(folder, **files)


def aliexpress_files(folder: Path) -> None:
    line = test_reader_aliexpress.line
    test_reader_aliexpress.write(folder, line(1, 0, 0) + line(2, 1, 1), line(3, 1, 2))


def movielens_files(folder: Path) -> None:
    files = {
        "ratings__csv": test_reader_movielens.RATINGS,
        "movies__csv": test_reader_movielens.MOVIES,
        "genome-scores__csv": test_reader_movielens.GENOME,
    }
    test_reader_movielens.write(folder, **files)


def movielens_1m_files(folder: Path) -> None:
    files = {
        "ratings__dat": "7::1::4::20\n7::2::3::10\n",
        "movies__dat": "1::Café: The (1995)::Drama|War\n2::Serial (2006-2007)::unknown\n",
        "users__dat": "7::F::1::10::48067\n",
    }
    test_reader_movielens.write(folder, "latin-1", **files)


CASES: dict[str, tuple[Callable[[Path], object], Callable[[Path], Tables]]] = {
    "aliccp": (test_reader_aliccp.write, aliccp.read),
    "aliexpress": (aliexpress_files, aliexpress.read),
    "amazon": (amazon_files, amazon.read),
    "kuairand": (test_reader_kuairand.write, kuairand.read),
    "kuairec": (kuairec_files, kuairec.read),
    "movielens": (movielens_files, movielens.read_with_genome),
    "movielens-1m": (movielens_1m_files, movielens.read),
    "retailrocket": (retailrocket_files, retailrocket.read),
}


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One change: the file is cut, a token comes in, lines or values change places, a value or a line is gone."""
    text = content.decode("latin-1")
    token = rng.choice(TOKENS).encode().decode("latin-1")
    if rng.random() < 0.3:
        place = rng.randrange(len(text))
        return (text[:place] + rng.choice(["", token + text[place:]])).encode("latin-1")
    lines = text.split("\n")
    separator = "::" if "::" in text else ","
    number = rng.randrange(len(lines))
    values = lines[number].split(separator)
    change = rng.choice(["lines", "values", "replace", "drop", "repeat"])
    if change == "lines":
        rng.shuffle(lines)
    elif change == "values":
        rng.shuffle(values)
    elif change == "replace":
        values[rng.randrange(len(values))] = token
    elif change == "drop":
        values.pop(rng.randrange(len(values)))
    if change != "lines":
        lines[number] = separator.join(values)
    if change == "repeat":
        lines.insert(number, lines[number])
    return "\n".join(lines).encode("latin-1")


@pytest.mark.parametrize("name", CASES)
def test_a_mutated_file_gives_tables_or_an_error_that_names_a_file(name: str, tmp_path: Path) -> None:
    write, read = CASES[name]
    write(tmp_path)
    assert isinstance(read(tmp_path), Tables)
    refusals = []
    files = sorted(tmp_path.iterdir())
    for seed in range(N_MUTATIONS):
        rng = random.Random(seed)
        path = rng.choice(files)
        before = path.read_bytes()
        path.write_bytes(mutated(before, rng))
        try:
            read(tmp_path)
        except DataError as error:
            refusals.append(str(error))
        path.write_bytes(before)
    assert len(refusals) > N_MUTATIONS / 4
    assert [message for message in refusals if str(tmp_path) not in message] == []
