"""Fake users: who they are, what they meet, and that nothing else changes."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from tiny import tables

from evorec.config import AttackConfig, SplitConfig
from evorec.data.attack import attack
from evorec.data.encode import encode, rows_of_fit
from evorec.data.splits import split
from evorec.data.tables import Columns
from evorec.errors import DataError

KINDS = ("random", "average", "bandwagon")
USER, ITEM, TIME = Columns.USER, Columns.ITEM, Columns.TIME
every_kind = pytest.mark.parametrize("kind", KINDS)


def attacked(kind="random", data=None, fit="train", **settings):
    data = tables() if data is None else data
    config = AttackConfig(**{"kind": kind, "n_targets": 4, "size_percent": 10, "filler": 6, **settings})
    return attack(data, split(data, SplitConfig()), config, fit=fit, target="click")


def fake_rows(found, data=None):
    data = tables() if data is None else data
    return found.tables.interactions[data.n_rows :]


def training_log(data=None, fit="train"):
    data = tables() if data is None else data
    return data.interactions[rows_of_fit(split(data, SplitConfig()), fit)[0]]


@every_kind
def test_genuine_rows_and_held_out_parts_stay_as_they_are(kind):
    found, parts = attacked(kind), split(tables(), SplitConfig())
    assert found.tables.interactions[: tables().n_rows].equals(tables().interactions)
    np.testing.assert_array_equal(found.split.validation, parts.validation)
    np.testing.assert_array_equal(found.split.test, parts.test)
    added = np.arange(tables().n_rows, found.tables.n_rows)
    np.testing.assert_array_equal(found.split.train, np.concatenate([parts.train, added]))


@every_kind
def test_a_fake_user_has_a_positive_on_every_target_and_different_fillers(kind):
    found, known = attacked(kind), set(tables().interactions[USER])
    rows = fake_rows(found)
    n_users = training_log()[USER].n_unique()
    assert rows[USER].n_unique() == max(1, round(n_users / 10))
    targets = set(found.targets.tolist())
    assert len(targets) == 4
    for (user,), own in rows.group_by(USER):
        assert user not in known
        assert own.height == own[ITEM].n_unique() == 4 + 6
        assert set(own.filter(pl.col(ITEM).is_in(list(targets)))[ITEM]) == targets
        assert (own.filter(pl.col(ITEM).is_in(list(targets)))["click"] > 0).all()


@every_kind
@pytest.mark.parametrize("fit", ["train", "train+validation"])
def test_targets_are_of_the_quarter_of_the_items_that_fewest_rows_are_about(kind, fit):
    counts = training_log(fit=fit)[ITEM].value_counts().sort("count")
    quarter = counts["count"][-(-counts.height // 4) - 1]
    of_item = dict(counts.iter_rows())
    assert all(1 <= of_item[item] <= quarter for item in attacked(kind, fit=fit).targets.tolist())


@every_kind
def test_labels_and_context_are_those_of_a_genuine_row(kind):
    names = ["click", "like", "purchase", "hour"]
    genuine = set(training_log().select(names).iter_rows())
    assert set(fake_rows(attacked(kind)).select(names).iter_rows()) <= genuine
    times = set(training_log()[TIME])
    assert set(fake_rows(attacked(kind))[TIME]) <= times


def test_an_average_attack_copies_each_filler_from_a_row_of_its_item():
    names = [ITEM, "click", "like", "purchase", "hour"]
    genuine, found = set(training_log().select(names).iter_rows()), attacked("average", filler=30)
    fillers = fake_rows(found).filter(~pl.col(ITEM).is_in(found.targets.tolist()))
    assert set(fillers.select(names).iter_rows()) <= genuine
    other = attacked("random", filler=30)
    fillers = fake_rows(other).filter(~pl.col(ITEM).is_in(other.targets.tolist()))
    assert not set(fillers.select(names).iter_rows()) <= genuine


@pytest.mark.parametrize(("filler", "half"), [(6, 3), (5, 3)])
def test_a_bandwagon_fills_half_of_a_profile_with_the_most_liked_items(filler, half):
    found = attacked("bandwagon", filler=filler)
    liked = training_log().filter(pl.col("click") > 0)[ITEM].value_counts()
    order = sorted(liked.iter_rows(), key=lambda row: (-row[1], row[0]))
    popular = [item for item, _ in order if item not in found.targets][:half]
    for _, own in fake_rows(found).group_by(USER):
        assert set(popular) <= set(own[ITEM])
        assert (own.filter(pl.col(ITEM).is_in(popular))["click"] > 0).all()
        assert own.height == 4 + filler


def test_the_filler_is_by_default_the_median_number_of_rows_of_a_user():
    rows = training_log()[USER].value_counts()["count"].median()
    lengths = fake_rows(attacked(filler=0))[USER].value_counts()["count"]
    assert set(lengths) == {4 + min(round(rows), training_log()[ITEM].n_unique() - 4)}


@every_kind
def test_a_profile_is_no_longer_than_the_catalogue(kind):
    found = attacked(kind, filler=10_000)
    for _, own in fake_rows(found).group_by(USER):
        assert own.height == own[ITEM].n_unique() == training_log()[ITEM].n_unique()


def test_the_seed_decides_and_the_kind_does_not_change_the_targets():
    one, same, other = attacked(), attacked(), attacked(seed=1)
    assert one.tables.interactions.equals(same.tables.interactions)
    assert one.tables.sha256() == same.tables.sha256()
    assert one.targets.tolist() == same.targets.tolist() == attacked("bandwagon").targets.tolist()
    assert one.targets.tolist() != other.targets.tolist()


def test_fake_users_are_described_as_genuine_ones_are():
    found = attacked(size_percent=30)
    fakes = set(fake_rows(found)[USER])
    table = found.tables.users
    assert table[: tables().users.height].equals(tables().users)
    described = table[tables().users.height :]
    assert set(described[USER]) == fakes
    names = ["segment", "tenure_days"]
    assert set(described.select(names).iter_rows()) <= set(tables().users.select(names).iter_rows())
    without = attacked(data=replace(tables(), users=None, user_features=()))
    assert without.tables.users is None


def as_text(data, prefix=""):
    user = pl.concat_str(pl.lit(prefix), pl.col(USER).cast(pl.String)).alias(USER)
    item = pl.col(ITEM).cast(pl.String)
    return replace(
        data,
        interactions=data.interactions.with_columns(user, item),
        users=data.users.with_columns(user),
        items=data.items.with_columns(item),
    )


@pytest.mark.parametrize(("prefix", "expected"), [("", "fake-0"), ("fake-", "fake--0")])
def test_fake_users_get_texts_where_ids_are_texts(prefix, expected):
    data = as_text(tables(), prefix)
    found = attacked(data=data)
    users = fake_rows(found, data)[USER].unique().sort()
    assert users[0] == expected
    assert not set(users) & set(data.interactions[USER])


def test_the_log_s_own_days_go_with_the_times():
    day = pl.from_epoch(pl.col(TIME), time_unit="s").dt.date().alias(Columns.DAY)
    data = replace(tables(), interactions=tables().interactions.with_columns(day))
    rows = fake_rows(attacked(data=data), data)
    assert (rows[Columns.DAY] == rows.select(day)[Columns.DAY]).all()


@every_kind
@pytest.mark.parametrize("fit", ["train", "train+validation"])
def test_the_catalogue_and_what_is_held_out_stay_the_same(kind, fit):
    found, settings = attacked(kind, fit=fit), {"tasks": tables().tasks, "target": "click", "fit": fit}
    clean = encode(tables(), split(tables(), SplitConfig()), **settings, statistics=("user", "item"))
    dirty = encode(found.tables, found.split, **settings, statistics=("user", "item"), funnel=("click", "purchase"))
    np.testing.assert_array_equal(clean.item_ids, dirty.item_ids)
    places = np.searchsorted(dirty.user_ids, clean.user_ids)
    np.testing.assert_array_equal(dirty.user_ids[places], clean.user_ids)
    for name in ("seen", "history", "relevant"):
        before, after = getattr(clean, name), getattr(dirty, name)
        for user, place in enumerate(places):
            np.testing.assert_array_equal(before.row(user), after.row(place))
    assert len(dirty.relevant.indices) == len(clean.relevant.indices)
    assert {field.name for field in dirty.user_fields} == {field.name for field in clean.user_fields}


def test_more_targets_than_items_are_refused():
    n_items = training_log()[ITEM].n_unique()
    with pytest.raises(DataError, match=rf"n_targets must be below the {n_items} items of simulator .* got {n_items}"):
        attacked(n_targets=n_items)
    assert len(attacked(n_targets=n_items - 1, filler=1).targets) == n_items - 1


def test_a_column_of_users_may_have_any_name():
    data = tables()
    named = data.users.with_columns(fake=pl.lit("no"))
    found = attacked(data=replace(data, users=named)).tables.users
    assert found[: named.height].equals(named)
    assert found[named.height :]["fake"].to_list() == ["no"] * (found.height - named.height)
    assert found[USER].n_unique() == found.height > named.height


def test_an_attack_without_a_positive_row_to_copy_is_refused():
    data = tables()
    nobody = data.interactions.with_columns(click=pl.lit(0.0))
    with pytest.raises(DataError, match="copies training rows with click > 0, and there are none"):
        attacked(data=replace(data, interactions=nobody))
