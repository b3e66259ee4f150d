"""Lists and predictions of a bundle beside those of the member that it was made from."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import exported
import numpy as np
import polars as pl
import pytest
from exported import TITLES, Made, same, with_item, with_user

from evorec.data.held_out import masked_items
from evorec.data.tables import Columns
from evorec.errors import ConfigError, DataError
from evorec.serving.queries import Item, ListOptions, User
from evorec.serving.recommender import Recommender, load_bundle
from evorec.training.evaluate import task_logits

K, NEW = 5, 10**6
PREDICTION = 1e-5  # float32
SUM = 1e-6  # of a few float32


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def plain(root: Path) -> Made:
    return exported.plain(root)


@pytest.fixture(scope="module")
def odd(root: Path) -> Made:
    return exported.odd(root)


@pytest.fixture(scope="module")
def numbers(root: Path) -> Made:
    return exported.numbers(root)


@pytest.fixture(params=["plain", "odd", "numbers"])
def made(request: pytest.FixtureRequest) -> Made:
    found: Made = request.getfixturevalue(request.param)
    return found


def test_columns_that_are_only_shown_describe_no_item_and_are_no_mistake(
    plain: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = plain.recommender
    item, user = recommender.catalogue.ids.ids[0], recommender.user_ids[0]
    expected = recommender.score(user, [item])
    monkeypatch.setattr(recommender, "shown", {"headline": ["x"] * recommender.n_items})
    assert recommender.score(user, [Item(item, {"headline": "Other"})]) == expected
    with pytest.raises(DataError, match="the model does not know item"):
        recommender.score(user, [Item("new", {"headline": "New"})])


def everybody(made: Made) -> list[int]:
    return list(range(made.dataset.n_users))


def known(made: Made, n: int = 3) -> list[Any]:
    return list(made.dataset.user_ids[:n].tolist())


# Known users


def test_every_known_user_gets_exactly_the_list_of_the_archived_member(made: Made) -> None:
    expected = made.listed(everybody(made))
    found = made.recommender.recommend(list(expected))
    for one, other in zip(found, expected.values(), strict=True):
        same(one, other)


def test_a_user_without_description_gets_the_list_of_the_unknown_user(made: Made) -> None:
    expected = made.listed([made.dataset.n_users])["unknown"]
    for asked in ("nobody", NEW, User(), User("nobody")):
        same(made.recommender.recommend([asked])[0], expected)
    assert not made.recommender.knows("nobody")


def test_seen_lifts_the_mask_and_nothing_else(made: Made) -> None:
    expected = made.listed(everybody(made), masked={})
    past = masked_items(made.dataset, made.encoded.config.evaluation)
    hidden = [set(made.dataset.item_ids[past.row(place)].tolist()) for place in everybody(made)]
    found = made.recommender.recommend(list(expected), seen=True)
    for one, other in zip(found, expected.values(), strict=True):
        same(one, other)
    assert any(item in own for pairs, own in zip(found, hidden, strict=True) for item, _ in pairs)
    unseen = made.recommender.recommend(list(expected))
    assert not any(item in own for pairs, own in zip(unseen, hidden, strict=True) for item, _ in pairs)


def test_a_list_may_be_longer_than_the_candidates_and_is_never_longer_than_the_catalogue(made: Made) -> None:
    n, places = made.dataset.n_items, everybody(made)[:4]
    expected = made.listed(places, masked={}, k=n, candidates=n)
    for asked in (n, n + 7, 10**9):
        for one, other in zip(made.recommender.recommend(list(expected), k=asked, seen=True), expected.values(),
                              strict=True):  # fmt: skip
            same(one, other)
            assert len(one) == n
    assert made.recommender.index_lists(list(expected), ListOptions(k=10**9)).items.shape == (4, n), (
        "no memory for places that stay empty"
    )


def test_a_short_list_is_the_beginning_of_a_longer_list(made: Made) -> None:
    users = known(made)
    short, full = made.recommender.recommend(users, k=2), made.recommender.recommend(users, k=K)
    for one, other in zip(short, full, strict=True):
        same(one, other[:2], SUM)


def test_lists_do_not_depend_on_the_batch_or_on_threads(made: Made) -> None:
    users = [made.dataset.user_ids[place] for place in everybody(made)]  # numbers of numpy
    users = [user.item() for user in users]
    together = made.recommender.recommend([*users, *reversed(users)])
    parallel = load_bundle(made.bundle, threads=3).recommend(users)
    for i, user in enumerate(users):
        (alone,) = made.recommender.recommend([user])
        for other in (together[i], together[-1 - i], parallel[i]):
            same(alone, other, SUM * 100)


def test_numbers_may_be_given_as_text_and_text_as_numbers_and_as_an_array(made: Made) -> None:
    users = known(made)
    other = [int(user) if isinstance(user, str) else str(user) for user in users]
    recommender = made.recommender
    assert all(recommender.knows(user) for user in (*users, *other))
    array: Any = made.dataset.user_ids[:3]
    assert recommender.recommend(other) == recommender.recommend(users) == recommender.recommend(array)


def test_a_request_that_cannot_be_used_is_refused_with_its_fix(plain: Made) -> None:
    empty, ids = np.zeros(0, dtype=np.int64), "an id must be"
    refused: list[tuple[Any, dict[str, Any], str]] = [
        ("12", {}, r"users must be a list, got '12'; write \['12'\]"),
        (b"12", {}, r"users must be a list, got b'12'"),
        (12, {}, r"users must be a list, got 12; write \[12\]"),
        (np.int64(12), {}, "users must be a list, got "),
        (np.array(12), {}, "users must be a list, got array"),
        (User(12), {}, r"users must be a list, got User\("),
        ({"id": 12}, {}, r"users must be a list, got \{'id': 12\}"),
        (pl.DataFrame({"user": [1, 2]}), {}, "users must be a list, got DataFrame"),
        ([], {}, "at least 1 user"),
        (empty, {}, "at least 1 user"),
        *(([user], {}, f"{ids} a whole number or a text, got ") for user in (1.5, True, b"1", (1,), Decimal("1.5"))),
        ([1e17], {}, f"{ids} exact, got 1e[+]17, a float that may have lost digits"),
        ([User(liked="12")], {}, r"liked must be a list, got '12'; write \['12'\]"),  # type: ignore[arg-type]
        ([User(exclude=3)], {}, r"exclude must be a list, got 3; write \[3\]"),  # type: ignore[arg-type]
        ([User(liked=[1.5])], {}, f"{ids} a whole number"),  # type: ignore[list-item]
        ([1], {"only": "12"}, r"only must be a list, got '12'; write \['12'\]"),
        *(([1], {"k": k}, "k must be a whole number of at least 1, got ") for k in (0, -1, True, 2.0, "3", np.True_)),
        *(([1], {"mmr": weight}, r"mmr must be in 0\.\.1, got") for weight in (-0.1, 1.1, float("nan"), "0.5")),
    ]
    for users, options, words in refused:
        with pytest.raises(DataError, match=words):
            plain.recommender.recommend(users, **options)
    with pytest.raises(DataError, match=r"items must be a list, got '12'; write \['12'\]"):
        plain.recommender.score(1, "12")


def test_arrays_columns_generators_and_their_numbers_are_used_as_lists(plain: Made) -> None:
    """A class stands in for the missing value of pandas, which is not installed."""
    missing = type("NAType", (), {})()
    users, liked, recommender = [3, 4], [5, 6], plain.recommender
    for kind in (
        np.array,
        pl.Series,
        tuple,
        iter,
        lambda ids: np.array(ids, dtype=np.float32),
        lambda ids: map(Decimal, ids),
    ):
        found = recommender.recommend(kind(users), k=np.int32(4), mmr=np.float32(0.5), only=kind(range(20)))
        assert found == recommender.recommend(users, k=4, mmr=0.5, only=range(20))
        described = [User(np.int64(3), liked=kind(liked), exclude=kind([7]))]  # type: ignore[arg-type]
        assert recommender.recommend(described) == recommender.recommend([User(3, liked, exclude=[7])])
        assert recommender.score(np.int64(3), kind(liked)) == recommender.score(3, liked)
        filtered = recommender.recommend(users, where={"category": kind([1, 2])})
        assert filtered == recommender.recommend(users, where={"category": [1, 2]})
    for nobody in (None, float("nan"), missing, np.float64("nan"), Decimal("nan")):
        assert recommender.recommend([nobody]) == recommender.recommend([User()])
        assert not recommender.knows(nobody)


def test_an_unknown_graph_is_refused(plain: Made) -> None:
    with pytest.raises(ConfigError, match=r"has no graph recommend\.int4\.onnx; it has: .*recommend\.fp16\.onnx"):
        load_bundle(plain.bundle, graph="recommend.int4.onnx")


# New users


def as_unknown(made: Made) -> dict[str, Any]:
    """The lines of the unknown user."""
    dataset = made.dataset
    return {name: getattr(dataset, name)[-1] for name in ("user_rows", "user_weights", "user_statistics")}


def history(made: Made, places: list[int]) -> np.ndarray:
    """Line of `Dataset.history_rows` for items by place, latest first."""
    line = np.zeros(made.dataset.history_rows.shape[1], dtype=np.int64)
    kept = made.dataset.item_history_row[places][: len(line)]
    line[: len(kept)] = kept
    return line


def asked_by_hand(made: Made, place: int, masked: list[int], **lines: Any) -> list[tuple[Any, float]]:
    """The list of a user by place whose lines are replaced."""
    found = made.listed([place], masked={place: masked}, dataset=with_user(made.dataset, place, **lines))
    return next(iter(found.values()))


def test_a_new_user_with_liked_items_gets_the_list_of_the_member(made: Made) -> None:
    places = [4, 17, 2]
    liked = made.dataset.item_ids[places].tolist()
    expected = asked_by_hand(made, 0, places, **as_unknown(made), history_rows=history(made, places))
    (found,) = made.recommender.recommend([User(liked=liked)])
    same(found, expected)
    assert not {item for item, _ in found} & set(liked)
    assert made.recommender.recommend([User("nobody", liked=[*liked, liked[0], "no item"])])[0] == found


def test_the_order_of_liked_items_matters_where_the_past_fades(odd: Made, plain: Made) -> None:
    for made, matters in ((odd, True), (plain, False)):
        liked = made.dataset.item_ids[[3, 9, 21]].tolist()
        one, other = made.recommender.user_vectors([User(liked=liked), User(liked=liked[::-1])])
        assert (np.abs(one - other).max() > SUM) == matters


def test_more_liked_items_than_the_past_holds_are_cut(odd: Made) -> None:
    places = [5, 6, 7, 8, 9]
    liked = odd.dataset.item_ids[places].tolist()
    assert odd.dataset.history_rows.shape[1] == 3
    expected = asked_by_hand(odd, 0, places, **as_unknown(odd), history_rows=history(odd, places[:3]))
    same(odd.recommender.recommend([User(liked=liked)])[0], expected)


def test_liked_items_precede_the_stored_history_of_a_known_user(made: Made) -> None:
    dataset, place = made.dataset, 1
    row_of = {int(row): item for item, row in enumerate(dataset.item_history_row[:-1])}
    stored = [row_of[int(row)] for row in dataset.history_rows[place] if row]
    liked = [next(item for item in range(dataset.n_items) if item not in stored), stored[1]]
    past = [*liked, *(item for item in stored if item not in liked)]
    own = masked_items(dataset, made.encoded.config.evaluation).row(place).tolist()
    expected = asked_by_hand(made, place, sorted({*own, *liked}), history_rows=history(made, past))
    asked = User(dataset.user_ids[place].item(), liked=dataset.item_ids[liked].tolist())
    same(made.recommender.recommend([asked])[0], expected)


def features_of(frame: pl.DataFrame | None, id_column: str, one: Any, names: set[str]) -> dict[str, Any]:
    """The features of a user or an item as the table has them."""
    assert frame is not None
    row = frame.row(by_predicate=pl.col(id_column) == one, named=True)
    return {name: row[name] for name in names}


def test_a_new_user_with_the_features_of_a_known_user_equals_that_user_without_id(made: Made) -> None:
    dataset, recommender = made.dataset, made.recommender
    for place in (0, 5, 6):
        features = features_of(
            made.problem.tables.users, Columns.USER, dataset.user_ids[place].item(), recommender.user_features
        )
        assert set(features) == {field.name for field in dataset.user_fields[1:]}
        rows, weights = dataset.user_rows[place].copy(), dataset.user_weights[place]
        rows[0] = dataset.user_rows[-1, 0]
        of_id = [n.startswith("user:") for n in dataset.statistics[: dataset.user_statistics.shape[1]]]
        statistics = np.where(of_id, dataset.user_statistics[-1], dataset.user_statistics[place])
        lines = {"user_rows": rows, "user_weights": weights, "user_statistics": statistics}
        expected = asked_by_hand(made, place, [], **lines, history_rows=0)
        same(recommender.recommend([User(features=features)])[0], expected)
        as_text = {n: v if isinstance(v, list) else str(v) for n, v in features.items()}
        assert recommender.recommend([User(features=as_text)]) == recommender.recommend([User(features=features)])


def test_given_features_replace_those_of_a_known_user(numbers: Made) -> None:
    dataset, place = numbers.dataset, 3
    field = next(field for field in dataset.user_fields if field.name == "segment")
    other = next(u for u in everybody(numbers) if dataset.user_rows[u, field.first_column] !=
                 dataset.user_rows[place, field.first_column])  # fmt: skip
    rows = dataset.user_rows[place].copy()
    rows[field.first_column] = dataset.user_rows[other, field.first_column]
    names = dataset.statistics[: dataset.user_statistics.shape[1]]
    of_segment = np.array([name.startswith("segment") for name in names])
    assert of_segment.sum() == 8, "segment and segment+hour: rows and three tasks each"
    statistics = np.where(of_segment, dataset.user_statistics[other], dataset.user_statistics[place])
    own = masked_items(dataset, numbers.encoded.config.evaluation).row(place).tolist()
    expected = asked_by_hand(numbers, place, own, user_rows=rows, user_statistics=statistics)
    segment = features_of(numbers.problem.tables.users, Columns.USER, dataset.user_ids[other].item(), {"segment"})
    (found,) = numbers.recommender.recommend([User(dataset.user_ids[place].item(), features=segment)])
    same(found, expected)


def test_a_request_may_give_the_context(numbers: Made) -> None:
    field = numbers.dataset.context_columns[0]
    hour = 3
    assert field.codebook is not None
    row = field.first_row + 1 + field.codebook.values.index(hour)
    dataset = replace(numbers.dataset, context_mode=np.array([row]))
    (expected,) = numbers.listed([2], dataset=dataset).values()
    user = numbers.dataset.user_ids[2].item()
    same(numbers.recommender.recommend([User(user, context={"hour": hour})])[0], expected)
    (usual,) = numbers.recommender.recommend([user])
    assert usual != expected


# New items


def new_item(made: Made, place: int, name: Any) -> tuple[Item, Any]:
    """A new item with all that is known of a catalogue item, and the data that have it, worked by hand."""
    dataset, fields = made.dataset, {field.name for field in made.dataset.item_fields[1:]}
    one = dataset.item_ids[place].item()
    features = features_of(made.problem.tables.items, Columns.ITEM, one, fields)
    content = {}
    if "content" in made.problem.tables.content:
        content = features_of(made.problem.tables.items, Columns.ITEM, one, {"content"})
    if one in TITLES and made.problem.tables.vectors:
        content["title"] = TITLES[one]
    rows = dataset.item_rows[place].copy()
    rows[0] = dataset.item_rows[-1, 0]
    names = dataset.statistics[dataset.user_statistics.shape[1] :]
    of_id = np.array([name.startswith("item:") for name in names], dtype=bool)
    extended = with_item(
        dataset,
        name,
        item_rows=rows,
        item_weights=dataset.item_weights[place],
        item_content=dataset.item_content[place],
        item_statistics=np.where(of_id, dataset.item_statistics[-1], dataset.item_statistics[place]),
    )
    return Item(name, features, content), extended


@pytest.mark.parametrize("place", [7, 9])
def test_a_new_item_is_listed_as_the_member_would_list_it(made: Made, place: int) -> None:
    name: Any = "zz new" if isinstance(made.dataset.item_ids[0].item(), str) else NEW
    item, extended = new_item(made, place, name)
    n = made.dataset.n_items + 1
    expected = made.listed([0, 1, 2], masked={}, dataset=extended, k=n, candidates=n)
    recommender = made.recommender.with_items([item])
    assert recommender.n_items == n
    assert recommender.has_item(name)
    assert not made.recommender.has_item(name)
    found = recommender.recommend(list(expected), k=n, seen=True)
    for one, other in zip(found, expected.values(), strict=True):
        same(one, other)
    position = [item for item, _ in found[0]].index(name)
    (scored,) = made.recommender.score(next(iter(expected)), [item])
    assert scored["score"] == pytest.approx(found[0][position][1], abs=SCORE)


SCORE = exported.SCORE


def test_a_new_item_can_be_filtered_excluded_and_liked(plain: Made) -> None:
    item, _ = new_item(plain, 7, NEW)
    recommender = plain.recommender.with_items([item])
    (category,) = (item.features["category"],)
    assert recommender.recommend([1], only=[NEW])[0][0][0] == NEW
    assert NEW in [one for one, _ in recommender.recommend([1], where={"category": [category]}, k=50)[0]]
    assert NEW not in [one for one, _ in recommender.recommend([User(exclude=[NEW])], k=60)[0]]
    assert NEW not in [one for one, _ in recommender.recommend([User(liked=[NEW])], k=60)[0]]
    twice = recommender.with_items([Item("other", {"category": category})])
    assert {one for one, _ in twice.recommend([1], only=["other", NEW])[0]} == {"other", NEW}
    for again in (1, str(NEW)):
        with pytest.raises(DataError, match="is in the catalogue already"):
            recommender.with_items([Item(again, {"category": category})])
    with pytest.raises(DataError, match="is to be added twice"):
        plain.recommender.with_items([item, Item(str(NEW), {"category": 1})])
    with pytest.raises(DataError, match="the model does not know item 'x'; give its features or content"):
        plain.recommender.with_items([Item("x")])


def test_a_small_graph_scores_new_items_with_the_full_graph(plain: Made) -> None:
    item, _ = new_item(plain, 7, NEW)
    small = load_bundle(plain.bundle, graph="recommend.fp16.onnx").with_items([item])
    assert small.recommend([1, 2], k=51, seen=True) == plain.recommender.with_items([item]).recommend(
        [1, 2], k=51, seen=True
    )


def test_a_known_item_keeps_content_that_is_not_replaced(plain: Made) -> None:
    one = plain.dataset.item_ids[4].item()
    own = features_of(plain.problem.tables.items, Columns.ITEM, one, {"price", "category"})
    asked = [Item(one), Item(one, {"price": own["price"]}), Item(one, own)]
    first, *others = plain.recommender.score(1, asked)
    for other in others:
        assert other == pytest.approx(first, abs=PREDICTION)


# Filters


def test_a_filter_lists_only_items_with_an_accepted_value(made: Made) -> None:
    items = made.problem.tables.items
    assert items is not None
    categories = dict(items.select(Columns.ITEM, "category").iter_rows())
    everything = made.recommender.recommend(known(made, 1), k=made.dataset.n_items, seen=True, mmr=0.0)[0]
    for values in ([3], [3, 5], ["3"], 3, ["3", "nothing"]):
        wanted = {3, 5} if values == [3, 5] else {3}
        (found,) = made.recommender.recommend(
            known(made, 1),
            where={"category": values},
            k=made.dataset.n_items,
            seen=True,  # type: ignore[dict-item]
        )
        assert {item for item, _ in found} == {one for one, category in categories.items() if category in wanted}
        same(found, [pair for pair in everything if categories[pair[0]] in wanted], SUM * 100)


def test_several_tags_are_filtered_by_any_of_them(numbers: Made) -> None:
    assert numbers.problem.tables.items is not None
    tags = dict(numbers.problem.tables.items.select(Columns.ITEM, "tags").iter_rows())
    (found,) = numbers.recommender.recommend(
        [1], where={"tags": ["t1", "t5"], "category": [1, 2, 3, 4]}, k=50, seen=True
    )
    category = dict(numbers.problem.tables.items.select(Columns.ITEM, "category").iter_rows())
    expected = {one for one, own in tags.items() if {"t1", "t5"} & set(own) and category[one] in (1, 2, 3, 4)}
    assert expected
    assert {item for item, _ in found} == expected


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"colour": [1]}, "the model has no item feature 'colour'; it has: category, price"),
        ({"price": [3]}, r"where\.price: a bundle keeps numbers only in bins; filter by id \(only\) instead"),
        ({"category": [[1, 2]]}, "feature category takes a single value, got 2"),
        ({"category": [{"a": 1}]}, "feature category must be a text or a number"),
    ],
)
def test_a_filter_that_cannot_be_used_is_refused(plain: Made, where: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        plain.recommender.recommend([1], where=where)


def test_nothing_left_is_an_empty_list(made: Made) -> None:
    users = known(made, 2)
    for empty in ({"only": []}, {"only": ["no item"]}, {"where": {"category": [999]}}, {"where": {"category": []}}):
        for mmr in (0.0, 0.5):
            assert made.recommender.recommend(users, **empty, mmr=mmr) == [[], []]


def test_only_and_exclude_leave_the_order_of_the_others(made: Made) -> None:
    n, (user,) = made.dataset.n_items, known(made, 1)
    everything = made.recommender.recommend([user], k=n, seen=True)[0]
    chosen = [item for item, _ in everything[::3]]
    (only,) = made.recommender.recommend([user], only=[*chosen, "no item"], k=n, seen=True)
    same(only, everything[::3], SUM * 100)
    (without,) = made.recommender.recommend([User(user, exclude=[*chosen, "no item"])], k=n, seen=True)
    same(without, [pair for pair in everything if pair[0] not in chosen], SUM * 100)


# Diversity


def slow_mmr(pairs: list[tuple[Any, float]], vectors: dict[Any, np.ndarray], k: int, weight: float) -> list[Any]:
    scores = dict(pairs)
    low, high = min(scores.values()), max(scores.values())
    left, chosen = list(scores), []
    while left and len(chosen) < k:

        def value(one: Any) -> float:
            relevance = (scores[one] - low) / (high - low)
            alike = max((float(vectors[one] @ vectors[other]) for other in chosen), default=0.0)
            return (1 - weight) * relevance - weight * alike

        chosen.append(max(left, key=value))
        left.remove(chosen[-1])
    return chosen


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_diversity_is_maximal_marginal_relevance_over_the_candidates(made: Made, weight: float) -> None:
    dataset, candidates = made.dataset, made.recommender.manifest["candidates"]
    content = dataset.item_content[:-1].astype(np.float64)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    vectors = dict(zip(dataset.item_ids.tolist(), content, strict=True))
    for user in known(made):
        (pool,) = made.recommender.recommend([user], k=candidates, mmr=0.0)
        (found,) = made.recommender.recommend([user], mmr=weight)
        assert [item for item, _ in found] == slow_mmr(pool, vectors, K, weight)
        assert dict(found).items() <= dict(pool).items(), "scores are those before the re-ranking"


# Predictions


def test_predictions_are_those_of_the_ranker_on_the_held_out_rows(plain: Made, odd: Made) -> None:
    """Held-out rows see the statistics of all training rows, as requests do."""
    for made in (plain, odd):
        dataset, part = made.dataset, made.dataset.held_out
        logits = task_logits(made.population, made.encoded.tensors, part)[0]
        moment = dataset.context_columns
        chosen = [i for i in range(part.n_rows) if part.users[i] < dataset.n_users and part.items[i] < dataset.n_items]
        for i in chosen[:: max(1, len(chosen) // 12)]:
            told = {}
            for place, field in enumerate(moment):
                assert field.codebook is not None
                code = int(part.context[i, place]) - field.first_row
                told[field.name] = field.codebook.values[code - 1] if code else "never"
            user, item = dataset.user_ids[part.users[i]].item(), dataset.item_ids[part.items[i]].item()
            (found,) = made.recommender.score(User(user, context=told), [item])
            expected = 1 / (1 + np.exp(-logits[:, i].astype(np.float64)))
            np.testing.assert_allclose([found[task] for task in dataset.tasks], expected, atol=PREDICTION)


def test_a_task_of_numbers_is_predicted_in_its_own_unit(numbers: Made) -> None:
    dataset = numbers.dataset
    watched = numbers.problem.tables.interactions[dataset.train.n_rows :]  # any rows: the range is the same
    mean, sd = float(dataset.label_shift[2]), float(dataset.label_scale[2])
    users, part = 4, dataset.held_out
    logits = task_logits(numbers.population, numbers.encoded.tensors, replace_context(numbers, part))[0]
    rows = [i for i in range(part.n_rows) if part.users[i] < dataset.n_users and part.items[i] < dataset.n_items]
    for i in rows[:users]:
        user, item = dataset.user_ids[part.users[i]].item(), dataset.item_ids[part.items[i]].item()
        (found,) = numbers.recommender.score(user, [item])
        assert found["watch"] == pytest.approx(mean + sd * float(logits[2, i]), abs=PREDICTION * sd * 10)
        assert found["click"] == pytest.approx(1 / (1 + np.exp(-float(logits[0, i]))), abs=PREDICTION)
    assert float(watched["watch"].min()) == 0.5  # type: ignore[arg-type]  # so that minutes are not deviations


def replace_context(made: Made, part: Any) -> Any:
    """Held-out rows in the usual moment, with the statistics that are served."""
    dataset = made.dataset
    context = np.repeat(dataset.context_mode[None], part.n_rows, axis=0)
    statistics = np.hstack([dataset.user_statistics[part.users], dataset.item_statistics[part.items]])
    return replace(part, context=context, statistics=statistics)


def test_an_item_has_the_same_score_in_a_list(made: Made) -> None:
    asked = [*known(made, 2), User(liked=made.dataset.item_ids[:3].tolist()), User("nobody")]
    for user, pairs in zip(asked, made.recommender.recommend(asked), strict=True):
        found = made.recommender.score(user, [item for item, _ in pairs])
        np.testing.assert_allclose([one["score"] for one in found], [score for _, score in pairs], atol=SCORE)
        assert all(set(one) == {*made.dataset.tasks, "score"} for one in found)


def test_a_score_needs_items_of_which_something_is_known(plain: Made) -> None:
    with pytest.raises(DataError, match="score needs at least 1 item, got none"):
        plain.recommender.score(1, [])
    with pytest.raises(
        DataError, match=r"the model does not know item 'x'; give its features or content, it has category"
    ):
        plain.recommender.score(1, [1, "x"])
    with pytest.raises(DataError, match=r"has no item feature 'colour'"):
        plain.recommender.score(1, [Item(1, {"colour": 3})])
    with pytest.raises(DataError, match=r"takes no content vector 'smell'"):
        plain.recommender.score(1, [Item(1, content={"smell": [1.0]})])
    with pytest.raises(DataError, match=r"content content must be 8 finite numbers"):
        plain.recommender.score(1, [Item(1, content={"content": [1.0, float("nan")]})])


def test_vectors_of_the_first_stage_give_its_score(plain: Made, odd: Made) -> None:
    """With the first stage alone as the formula, which `by_hand` is made from, lists are products of vectors."""
    for made in (plain, odd):
        keys, prior = made.recommender.item_keys()
        users = made.recommender.user_vectors(known(made))
        assert np.linalg.norm(users, axis=1) == pytest.approx(1.0, abs=PREDICTION)
        expected = made.listed([0, 1, 2], masked={}, k=K, candidates=K)  # the candidates are the best of the product
        product = users @ keys.T + prior
        for line, pairs in zip(product, expected.values(), strict=True):
            best = made.dataset.item_ids[np.argsort(-line, kind="stable")[:K]].tolist()
            assert {item for item, _ in pairs} == set(best)


def test_a_recommender_has_sizes_and_feature_names(numbers: Made) -> None:
    recommender: Recommender = numbers.recommender
    assert (recommender.n_users, recommender.n_items) == (numbers.dataset.n_users, numbers.dataset.n_items)
    assert recommender.user_features == {"segment", "tenure_days", "hobbies"}
    assert recommender.context_features == {"hour"}
    assert recommender.item_features == {"category", "price", "tags", "content", "title"}
    assert recommender.tasks == ("click", "like", "watch")


def test_parallel_calls_give_the_same_results(plain: Made) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def asked(user: int) -> list[tuple[Any, float]]:
        return plain.recommender.recommend([user])[0]

    users = known(plain, 40)
    expected = [asked(user) for user in users]
    with ThreadPoolExecutor(4) as pool:
        run: Callable[[int], list[tuple[Any, float]]] = asked
        assert list(pool.map(run, users)) == expected
