"""Lists written into a text by JSON, Python, NumPy and PostgreSQL."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from data.logs import HEAD, table

from evorec.data.tabular.lists import parse_list
from evorec.errors import DataError

LETTERS = "ab Zé,;|'\"\\[]{}()0.:-\n"


def postgres(elements: list[str]) -> str:
    """An array as PostgreSQL prints it, with every element in quotes."""
    escaped = (element.replace("\\", "\\\\").replace('"', '\\"') for element in elements)
    return "{" + ",".join(f'"{element}"' for element in escaped) + "}"


def test_a_list_of_any_texts_is_read_back_however_it_was_written() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        elements = ["".join(rng.choices(LETTERS, k=rng.randrange(6))) for _ in range(rng.randrange(5))]
        for written in (json.dumps(elements), repr(elements), postgres(elements), repr(tuple(elements))):
            if written != "()":
                assert parse_list(written) == elements, written
        numbers = rng.choices(range(-99, 100), k=rng.randint(2, 5))
        for written in (
            str(np.array(numbers)),
            str(np.array(numbers, dtype=float)),
            repr(np.array(numbers)),
            f"{numbers}",
        ):
            assert parse_list(written) == [str(number) for number in numbers], written


def test_what_is_not_a_list_of_single_values_is_none() -> None:
    for text in (
        *(
            "a",
            "a, b",
            "[a",
            "['a', 'b'",
            "[[1], [2]]",
            "{{1,2},{3,4}}",
            "[{'id': 28}]",
            '{"a": 1}',
            "{a: 1}",
            "[a,,b]",
        ),
        *("[1 2 ... 9]", "[1, 2, ..., 9]", "[b'a']", "(500) Days (2009)", "(a)"),
    ):
        assert parse_list(text) is None, text
    for text, elements in {
        "[]": [], "{}": [], "[ ]": [], "{NULL,a b,007}": [None, "a b", "007"],
        "[Action, Indie Game]": ["Action", "Indie Game"], "['a' 'b c']": ["a", "b c"], "{'a'}": ["a"],
        "[None, True, 1.0, u'x']": [None, "true", "1", "x"], "array(['a', 'b'], dtype='<U1')": ["a", "b"],
        "[np.float64(0.5), np.int64(2)]": ["0.5", "2"],
    }.items():  # fmt: skip
        assert parse_list(text) == elements, text


def test_a_value_in_brackets_is_a_list_whatever_the_separator(tmp_path: Path) -> None:
    values = [
        "['Action', 'Indie']",
        "{Action,Indie}",
        "[]",
        '["Action"]',
        "[Action|Indie]",
        "Action|Indie",
        "[HD]|[4K]",
    ]
    log = HEAD + "".join(f"1,{item},10,1\n" for item in range(len(values)))
    files = {"log.csv": log, "i.tsv": "id\tg\n" + "".join(f"{item}\t{value}\n" for item, value in enumerate(values))}
    items = {"files": ["i.tsv"], "key": "id", "features": {"g": "multi_hot"}, "separators": {"g": "|"}, "quote": ""}
    found = table(tmp_path, files, items=items).items
    assert found is not None
    both = ["Action", "Indie"]
    assert found["g"].to_list() == [both, both, [], ["Action"], both, both, ["[HD]", "[4K]"]]
    for separators, value in (
        ({"g": ","}, "[[1, 2], [3]]"),
        ({"g": ","}, "{'a': 1}"),
        ({}, "Action|Indie"),
        ({}, "['a"),
    ):
        text = files["i.tsv"].replace(values[1], value)
        key = r"set \(data\.items\.separators\), got"
        text = text if separators else f"id\tg\n0\t[]\n1\t{value}\n"
        with pytest.raises(DataError, match=rf"i\.tsv, line 3, column g must be a JSON list such as .*{key}"):
            table(tmp_path, {**files, "i.tsv": text}, items={**items, "separators": separators})
