"""Descriptions of items by hand: values weighted by their rarity, and content beside them."""

from types import SimpleNamespace

import numpy as np
import pytest

from evorec.data.descriptions import item_descriptions


def described(content):
    """Items with the colour 5 or 6 (4 = unknown) and a tag of 8 and 9 (7 = unknown), and the unknown item."""
    rows = np.array([[1, 5, 8, 9], [2, 6, 8, 0], [3, 4, 9, 0], [3, 4, 7, 0], [3, 4, 7, 0]])
    weights = np.where(rows > 0, 1.0, 0.0)
    fields = (SimpleNamespace(first_row=4), SimpleNamespace(first_row=7))
    return SimpleNamespace(
        item_rows=rows, item_weights=weights, item_fields=fields, n_items=4, distance_content=np.array(content)
    )


def test_rare_values_make_items_more_alike():
    found = item_descriptions(described(np.zeros((5, 0)))).toarray()
    colour, tag = 1 + np.log(4), 1 + np.log(2)
    first = np.array([colour, 0, tag, tag]) / np.sqrt(colour**2 + 2 * tag**2)
    second = np.array([0, colour, tag, 0]) / np.hypot(colour, tag)
    np.testing.assert_allclose(found, [first, second, [0, 0, 0, 1], [0, 0, 0, 0]], rtol=1e-6)


def test_content_counts_half():
    one = [1.0, 0.0]
    found = item_descriptions(described([one, one, [0.0, 1.0], one, one])).toarray()
    plain = item_descriptions(described(np.zeros((5, 0)))).toarray()
    same = found @ found.T
    assert same[0, 1] == pytest.approx((plain[0] @ plain[1] + 1) / 2, rel=1e-6)
    assert same[0, 3] == pytest.approx(np.sqrt(0.5), rel=1e-6)  # only content is known of the last item


def test_nothing_is_known_of_bare_items():
    bare = described(np.zeros((5, 0)))
    bare.item_rows = bare.item_rows[:, :1]
    bare.item_weights = bare.item_weights[:, :1]
    assert item_descriptions(bare) is None
