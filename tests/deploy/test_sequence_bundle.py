"""A member that encodes the past in order: searched, explained, exported and served."""

from pathlib import Path

from feed_run import config, searched

from evorec import load_bundle
from evorec.deploy.bundle.export import export_bundle
from evorec.deploy.explanation.explain import explain
from evorec.run.directory import RunDirectory
from evorec.serving.queries import User


def test_a_member_with_self_attention_is_searched_explained_exported_and_served(tmp_path: Path) -> None:
    space = {
        "encoder": "attention", "attention_layers": 1, "attention_heads": "search", "bag_decay": "search",
        "history": True, "embedding_dim": 8, "history_weight": 10.0, "popularity_weight": 0.0,
    }  # fmt: skip
    problem, path = searched(tmp_path, config(space=space, search={"population": 4, "generations": 1}))
    assert {"encoder", "attention_heads", "encoder_dropout", "user_vector"} < set(problem.space.names)
    assert "bag_decay" not in problem.space.names  # no bag is searched
    with RunDirectory.open(path) as run:
        member = next(iter(run.members()))
        explained = explain(run, problem, member.key, repeats=1, seed=0)
        # Lists and graphs are compared with those of the member before the bundle is written.
        bundle = export_bundle(run, problem, member.key, tmp_path / "bundle")
    assert any("each past positive attends" in line for line in explained.words)
    served = load_bundle(bundle)
    items = problem.data.dataset.item_ids.tolist()
    one, other = (served.recommend([User(id="new", liked=(item,))], k=5)[0] for item in items[:2])
    assert one != other  # the past alone tells two unknown users apart
