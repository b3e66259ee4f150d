"""Text of items: joined columns, and vectors of their words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_array

from evorec.data.content.spectral import singular_vectors
from evorec.data.tables import Columns, Tables
from evorec.errors import DataError

WORD = r"(?u)\b\w+\b"
"""Letters, digits and underscores: "4K" and "Up" are words of a title."""


def joined_text(tables: Tables, columns: Sequence[str], where: str) -> tuple[pl.Series, pl.Series]:
    """Ids and text of each item of the table; "" where there is no text.

    Args:
        tables: with an item table.
        columns: of text, or of lists of texts; joined by spaces in this order.
        where: begins a message.
    Raises:
        DataError: there is no item table, or a column is missing or holds no text.
    """
    items = tables.items
    if items is None:
        raise DataError(f"{where} needs an item table with text, and {tables.name} has none.")
    if missing := [column for column in columns if column not in items.columns]:
        raise DataError(f"{where}: the item table lacks the columns {missing}; it has {items.columns}.")
    texts = []
    for column in columns:
        dtype = items.schema[column]
        if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.String):
            texts.append(pl.col(column).list.drop_nulls().list.join(" ").fill_null(""))
        elif isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
            texts.append(pl.col(column).cast(pl.String).fill_null(""))
        else:
            raise DataError(f"{where}: column {column} of the item table must hold text, got {dtype}.")
    text = items.select(pl.concat_str(texts, separator=" ").str.strip_chars().alias("text")).to_series()
    return items[Columns.ITEM], text


def word_vectors(texts: Sequence[str], *, dims: int, min_count: int, where: str) -> npt.NDArray[np.float32]:
    """TF-IDF of the words (1 plus logarithm of the count, unit rows), then a truncated SVD without centring.

    Args:
        texts: ``(N,)``; case and accents do not matter.
        dims: most columns.
        min_count: texts that must have a word.
        where: begins a message.
    Returns:
        float32 ``(N, d)``, d <= dims; zero where no word is left.
    Raises:
        DataError: no word is in so many texts.
    Source: Deerwester et al. 1990 (latent semantic analysis), on scikit-learn's weights.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(strip_accents="unicode", token_pattern=WORD, min_df=min_count, sublinear_tf=True)
    try:
        matrix = csr_array(words.fit_transform(texts), dtype=np.float64)
    except ValueError:  # scikit-learn's word for an empty vocabulary
        raise DataError(
            f"{where}: no word is in {min_count} or more items; lower min_count or name columns with more text."
        ) from None
    vectors, values = singular_vectors(matrix, dims)
    return (vectors * values).astype(np.float32)
