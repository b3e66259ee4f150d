"""Parts of the test by what was in training."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evorec.config import QuantileKind
from evorec.data.dataset import Csr
from evorec.deploy.final.parts import ColdParts

NAN = np.nan
USERS = np.array([0, 0, 1, 1, 2, 2, 2, 0])  # user 2 has no training row
ITEMS = np.array([0, 1, 0, 1, 0, 1, 2, 3])  # item 2 has none, item 3 is outside the catalogue
LABELS = np.array([[1, 5.0], [0, 2.0], [1, NAN], [0, 1.0], [1, 3.0], [0, 1.0], [1, 2.0], [1, 4.0]])
DATASET: Any = SimpleNamespace(
    n_users=2,
    item_counts=np.array([4, 2, 0]),
    tasks=("click", "watch"),
    kinds=("binary", QuantileKind(quantile=0.9)),
    held_out=SimpleNamespace(users=USERS, items=ITEMS, labels=LABELS),
    history=Csr.from_pairs(np.array([0]), np.array([1]), n_rows=3),
)
PARTS = ColdParts(DATASET, np.array([0, 1]))
SCORES = {"click": np.array([0.9, 0.1, 0.3, 0.4, 0.2, 0.5, 0.6, 0.1]), "watch": LABELS[:, 1]}


def test_a_row_is_known_or_of_a_new_user_or_of_a_new_item_or_both() -> None:
    assert {name: np.flatnonzero(rows).tolist() for name, rows in PARTS.rows.items()} == {
        "known": [0, 1, 2, 3],
        "new_users": [4, 5, 6],
        "new_items": [6, 7],
    }


def test_metrics_of_a_part_use_only_its_rows() -> None:
    found = PARTS.of_rows(SCORES)
    known = roc_auc_score(LABELS[:4, 0], SCORES["click"][:4])
    assert known == 0.75  # of four pairs one is wrong, .3 below .4
    # watch is told by itself: concordance 1 wherever two numbers differ
    assert found["known"] == {"rows": 4, "auc/click": 0.75, "concordance/watch": 1.0, "accuracy": 0.875}
    assert found["new_users"] == {"rows": 3, "auc/click": 0.5, "concordance/watch": 1.0, "accuracy": 0.75}
    assert found["new_items"] == {"rows": 2, "concordance/watch": 1.0, "n_undefined": 1}, "both are clicked"
    without = PARTS.of_rows({"click": SCORES["click"]})
    assert without["known"] == {"rows": 4, "auc/click": 0.75, "n_undefined": 1}


def test_recall_is_divided_by_whether_a_user_has_a_past() -> None:
    assert PARTS.of_users({"recall@5": np.array([0.25, 0.75])}, "recall@5") == {
        "with_history": {"users": 1, "recall@5": 0.25},
        "without_history": {"users": 1, "recall@5": 0.75},
    }
    warm = ColdParts(DATASET, np.array([0]))
    assert warm.of_users({"recall@5": np.array([0.25])}, "recall@5")["without_history"] == {"users": 0}


@pytest.mark.parametrize("name", ["known", "new_users", "new_items"])
def test_an_empty_part_has_a_count_and_no_figure(name: str) -> None:
    nobody: Any = SimpleNamespace(**{**vars(DATASET), "held_out": SimpleNamespace(
        users=USERS[:0], items=ITEMS[:0], labels=LABELS[:0])})  # fmt: skip
    scores = {task: some[:0] for task, some in SCORES.items()}
    assert ColdParts(nobody, np.array([0])).of_rows(scores)[name] == {"rows": 0, "n_undefined": 2}
