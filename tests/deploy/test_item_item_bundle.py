"""Members with item-item scores: finalized, explained, exported and served, alone and blended."""

from pathlib import Path

import numpy as np
import pytest
from feed_run import config, searched

from evorec import load_bundle
from evorec.deploy.bundle.export import ExportOptions, export_bundle
from evorec.deploy.explanation.explain import explain
from evorec.deploy.final.finalize import finalize
from evorec.run.directory import RunDirectory
from evorec.serving.queries import Item, User

SMALL = {"population": 4, "generations": 1, "surrogate": "none"}
ROUNDING = 1e-4
ALONE = {
    "tasks": {"ranked": [], "funnel": [], "given": {}, "target": "click"},
    "objectives": ["recall@k", "catalogue_coverage@k"],
    "constraints": [],
    "space": {
        "item_item": "knn", "item_item_blend": False, "neighbours": 8, "past_half_life": 20.0, "next_item": 1.0,
    },
    "finalize": {"picks": ["best:recall@k"], "seeds": 1},
    "search": SMALL,
}  # fmt: skip


def test_item_item_scores_alone_are_finalized_exported_and_served(tmp_path: Path) -> None:
    settings = config(**ALONE)
    problem, path = searched(tmp_path, settings)
    with RunDirectory.open(path) as run:
        report = finalize(run, problem, settings.finalize)
        member = report["picks"][0]["member"]
        explained = explain(run, problem, member, repeats=1, seed=0)
        # Lists and graphs are compared with those of the member before the bundle is written.
        bundle = export_bundle(run, problem, member, tmp_path / "bundle")
    assert any("how many users share them with the user's past" in line for line in explained.words)
    assert "recall@5" in report["picks"][0]["test"]
    served = load_bundle(bundle)
    arrays = served._arrays
    assert arrays["item_item.values"].shape == (len(arrays["catalogue.prior"]), 8)
    users = list(served.user_ids)
    together = served.recommend(users, k=4)
    assert [[item for item, _ in served.recommend([user], k=4)[0]] for user in users] == [
        [item for item, _ in listed] for listed in together
    ]
    # Of a new user the neighbours of what they like, the latest first in weight.
    item = served.catalogue.ids.ids[0]
    (listed,) = served.recommend([User(id="new", liked=(item,))], k=1)
    best = np.argmax(arrays["item_item.values"][0])
    assert listed[0][0] == served.catalogue.ids.ids[arrays["item_item.neighbours"][0][best]]


@pytest.mark.parametrize(
    "space",
    [
        {"item_item": "ease", "neighbours": 0, "rerank": True},
        {"item_item": "low_rank", "neighbours": 64, "rerank": False},
    ],
    ids=["dense", "factors"],
)
def test_a_blend_is_exported_and_served(tmp_path: Path, space: dict[str, object]) -> None:
    blend = {"item_item_blend": True, "item_item_share": 0.6, "neighbour_weight": 0.3, "past_decay": 0.7}
    named = {**blend, **space} if space["item_item"] == "low_rank" else {**space, **blend}
    if space["item_item"] == "ease":
        del named["neighbour_weight"]
    problem, path = searched(tmp_path, config(space=named, search=SMALL))
    with RunDirectory.open(path) as run:
        key = next(iter(run.members())).key
        variants = ("fp16",) if space["rerank"] else ()
        options = ExportOptions(variants=variants, largest_loss=0.2)
        bundle = export_bundle(run, problem, key, tmp_path / "bundle", options=options)
    served = load_bundle(bundle)
    user = served.user_ids[3]
    (listed,) = served.recommend([user], k=4)
    scored = served.score(user, [item for item, _ in listed])
    assert [entry["score"] for entry in scored] == pytest.approx([score for _, score in listed], abs=ROUNDING)
    features = dict.fromkeys(sorted(served.item_features)[:1], "new")
    extended = served.with_items([Item(id="new", features=features)])
    (with_new,) = extended.recommend([user], k=served.n_items + 1, seen=True)
    assert "new" in [item for item, _ in with_new]
    (score,) = served.score(user, [Item(id="new", features=features)])
    assert score["score"] == pytest.approx(dict(with_new)["new"], abs=ROUNDING)
