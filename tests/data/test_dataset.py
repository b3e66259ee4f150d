from __future__ import annotations

import numpy as np

from evorec.data.dataset import Csr


def sets(matrix: Csr) -> list[list[int]]:
    return [matrix.row(row).tolist() for row in range(matrix.n_rows)]


def test_csr_agrees_with_sets() -> None:
    rng = np.random.default_rng(3)
    rows, columns = rng.integers(0, 6, 40), rng.integers(0, 9, 40)
    matrix = Csr.from_pairs(rows, columns, n_rows=7)
    expected = [sorted({int(c) for r, c in zip(rows, columns, strict=True) if r == row}) for row in range(7)]
    assert sets(matrix) == expected
    assert matrix.counts().tolist() == [len(row) for row in expected]
    assert sets(matrix.select(np.array([5, 6, 0, 5]))) == [expected[row] for row in (5, 6, 0, 5)]
    probe_rows, probe_columns = np.repeat(np.arange(7), 12), np.tile(np.arange(12), 7)
    inside = [c in expected[r] for r, c in zip(probe_rows, probe_columns, strict=True)]
    assert matrix.contains(probe_rows, probe_columns).tolist() == inside
    assert matrix.to_scipy(9).toarray().astype(bool).tolist() == [[c in row for c in range(9)] for row in expected]


def test_csr_without_pairs_has_empty_rows() -> None:
    empty = Csr.from_pairs(np.empty(0, np.int64), np.empty(0, np.int64), n_rows=2)
    assert sets(empty) == [[], []]
    assert sets(empty.select(np.array([1]))) == [[]]
    assert empty.contains(np.array([0]), np.array([3])).tolist() == [False]
