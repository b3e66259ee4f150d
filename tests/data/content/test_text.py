from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from evorec.data.content.text import joined_text, word_vectors
from evorec.data.tables import Columns, Tables
from evorec.errors import DataError

ROUNDING = 1e-6  # float32
TEXTS = ["The red fish", "blue FISH", "one two red red", "", "Blue blue físh!", "unheard"]


def slow_tfidf(texts: list[str], min_count: int) -> np.ndarray:
    """By the definition: (1 + ln count) * (1 + ln((1 + n) / (1 + df))), rows of unit length."""
    split = [text.lower().replace("í", "i").replace("!", "").split() for text in texts]
    often = Counter(word for words in split for word in set(words))
    known = sorted(word for word, count in often.items() if count >= min_count)
    out = np.zeros((len(texts), len(known)))
    for row, words in enumerate(split):
        for column, word in enumerate(known):
            if word in words:
                idf = 1 + np.log((1 + len(texts)) / (1 + often[word]))
                out[row, column] = (1 + np.log(words.count(word))) * idf
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)


@pytest.mark.parametrize("min_count", [1, 2])
def test_word_vectors_keep_the_angles_of_tfidf(min_count: int) -> None:
    expected = slow_tfidf(TEXTS, min_count)
    found = word_vectors(TEXTS, dims=50, min_count=min_count, where="here")
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=ROUNDING)


def test_fewer_dims_are_the_leading_ones() -> None:
    U, values, _ = np.linalg.svd(slow_tfidf(TEXTS, 1))
    found = word_vectors(TEXTS, dims=2, min_count=1, where="here")
    assert found.shape == (6, 2)
    np.testing.assert_allclose(np.abs(found), np.abs(U[:, :2] * values[:2]), atol=ROUNDING)


def test_texts_without_a_known_word_have_no_vector() -> None:
    found = word_vectors(TEXTS, dims=8, min_count=2, where="here")
    assert (~found.any(axis=1)).nonzero()[0].tolist() == [3, 5]


@pytest.mark.parametrize("texts", [["", ""], ["one", "two"], ["one"]])
def test_no_shared_word_is_refused(texts: list[str]) -> None:
    with pytest.raises(DataError, match="here: no word is in 2 or more items; lower min_count"):
        word_vectors(texts, dims=2, min_count=2, where="here")


def tables(**columns: Any) -> Tables:
    """Items 1, 2, ... with columns, and a log of one row."""
    ids = range(1, 1 + len(columns["title"]))
    log = pl.DataFrame({Columns.USER: [1], Columns.ITEM: [1], Columns.TIME: [0], "click": [1]})
    return Tables("shop", log, ("click",), items=pl.DataFrame({Columns.ITEM: ids, **columns}))


def test_columns_of_text_and_of_lists_are_joined() -> None:
    ids, texts = joined_text(
        tables(title=["Up", None, " "], tags=[["a", None, "b"], ["c"], None]), ["title", "tags"], "here"
    )
    assert ids.to_list() == [1, 2, 3]
    assert texts.to_list() == ["Up a b", "c", ""]


def test_columns_without_text_are_refused() -> None:
    shop = tables(title=["Up"], year=[2009])
    with pytest.raises(DataError, match="here: column year of the item table must hold text, got Int64"):
        joined_text(shop, ["title", "year"], "here")
    with pytest.raises(DataError, match=r"lacks the columns \['plot'\]; it has \['item_id', 'title', 'year'\]"):
        joined_text(shop, ["plot"], "here")
    with pytest.raises(DataError, match="here needs an item table with text, and shop has none"):
        joined_text(replace(shop, items=None), ["title"], "here")
