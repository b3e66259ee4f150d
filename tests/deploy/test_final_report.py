"""What the report of the final training works out by itself."""

import numpy as np
import pytest

from evorec.config import FinalizeConfig
from evorec.deploy.final.final_report import proxies, steps_settings, undominated
from evorec.objectives import Objective

ROUNDING = 1e-12
RECALL = Objective("recall@20", "recall@20", "max", "", 1.0, 0.0)
COST = Objective("cost", "training_flops", "min", "FLOP", 1e5, 1e10, log10=True)


def metrics(recall: float, cost: float) -> dict[str, float]:
    return {"recall@20": recall, "training_flops": cost}


def test_domination_needs_no_worse_objective_and_a_better_objective() -> None:
    picked = {
        "good": metrics(0.3, 2e6),
        "cheap": metrics(0.2, 1e6),
        "as cheap and worse": metrics(0.1, 1e6),
        "worse and dearer": metrics(0.25, 3e6),
        "twin of good": metrics(0.3, 2e6),
    }
    assert undominated(picked, (RECALL, COST)) == {"good", "cheap", "twin of good"}
    assert undominated(picked, (RECALL,)) == {"good", "twin of good"}
    assert undominated(picked, ()) == set(picked), "nothing was measured, so nothing is worse"
    assert undominated({"one": metrics(0.0, 1e9)}, (RECALL, COST)) == {"one"}


def test_rank_correlations_equal_hand_computed_values() -> None:
    # ranks of the search 1 2 3 4, of the test 1 3 2 4: squared differences 0 1 1 0, so 1 - 6 * 2 / (4 * 15) = .8;
    # of six pairs one is turned: (5 - 1) / 6
    search = {key: metrics(value, 5.0) for key, value in zip("abcd", (0.1, 0.2, 0.3, 0.4), strict=True)}
    test = {key: metrics(value, 7.0 + value) for key, value in zip("abcd", (0.15, 0.19, 0.16, 0.5), strict=True)}
    found = proxies(search, test, (RECALL, COST))
    assert found["n"] == 4
    assert found["of"].keys() == {"recall@20"}
    assert found["of"]["recall@20"] == pytest.approx({"spearman": 0.8, "kendall": 2 / 3}, abs=ROUNDING)
    assert found["left_out"] == {"training_flops": "all members have the same value, or a member has none"}


def test_two_members_have_no_rank_correlation() -> None:
    two = {"a": metrics(0.1, 1.0), "b": metrics(0.2, 2.0)}
    found = proxies(two, two, (RECALL,))
    assert found == {"n": 2, "of": {}, "left_out": {"recall@20": "needs 3 or more members, got 2"}}
    gone = {key: metrics(float(np.float64(ord(key))), 1.0) for key in "abc"}
    assert proxies({**gone, "b": {}}, gone, (RECALL,))["of"] == {}


def test_patience_matters_only_where_it_decides() -> None:
    assert steps_settings(FinalizeConfig(steps="search", patience=9)) == {"steps": "search"}
    assert steps_settings(FinalizeConfig(patience=9)) == {"steps": "validation", "patience": 9, "longest": 3.0}
