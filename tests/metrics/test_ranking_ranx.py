"""Ranking metrics against ranx; apart because ranx compiles for seconds.

The functions behind ranx's `evaluate` are called: one ``(U, n, 2)`` array of (item, relevance) and one of (item,
score), which are compiled once instead of a dictionary per user.
"""

import numpy as np
import pytest
from scipy.sparse import csr_array

from evorec.metrics.lists import hits
from evorec.metrics.ranking import hit_rate_at_k, mrr_at_k, ndcg_at_k, precision_at_k, recall_at_k
from evorec.metrics.top_items import top_k

AGREEMENT = 1e-6  # asked for between libraries; both sides are float64
N_ITEMS = 12


@pytest.mark.filterwarnings("ignore")  # notices of the compiler that ranx uses
def test_ranking_metrics_agree_with_ranx_on_ties_short_lists_and_k_above_the_catalogue():
    ranx = pytest.importorskip("ranx.metrics")
    rng = np.random.default_rng(1)
    scores = rng.integers(5, size=(40, N_ITEMS)).astype(float)
    scores[rng.random(scores.shape) < 0.3] = -np.inf  # masked items: short lists
    truth = rng.random(scores.shape) < 0.2
    truth[:, 0] |= ~truth.any(axis=1)
    counts = truth.sum(axis=1)
    wanted = np.stack(np.broadcast_arrays(np.arange(N_ITEMS), truth), axis=2).astype(float)
    wanted = np.take_along_axis(wanted, np.argsort(~truth, axis=1, kind="stable")[:, :, None], axis=1)  # relevant first
    for k in (3, N_ITEMS + 3):
        lists = top_k(scores, k)
        ranked = np.stack([lists, np.broadcast_to(np.arange(k, 0, -1), lists.shape)], axis=2).astype(float)
        hit = hits(lists, csr_array(truth), N_ITEMS)
        pairs = [
            (recall_at_k(hit, counts), ranx.recall),
            (ndcg_at_k(hit, counts), ranx.ndcg),
            (precision_at_k(hit), ranx.precision),
            (hit_rate_at_k(hit), ranx.hit_rate),
            (mrr_at_k(hit), ranx.reciprocal_rank),
        ]
        for values, theirs in pairs:
            assert values == pytest.approx(theirs(wanted, ranked, k), abs=AGREEMENT), theirs.__name__
