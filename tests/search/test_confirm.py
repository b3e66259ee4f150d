"""Members of a front trained again with fresh seeds: durable, resumable, and never after the test."""

import json
import shutil
import sqlite3
from contextlib import suppress

import numpy as np
import pytest

from evorec.cli import main
from evorec.config import RunConfig, SearchConfig
from evorec.errors import Interruption, RunError
from evorec.objectives import Objective
from evorec.problem import Outcome, Problem
from evorec.run.directory import RunDirectory
from evorec.run.ledger import EXTENSION, FRESH
from evorec.search.confirm import LARGEST_SEED, confirm, read_confirmed
from evorec.search.engine import search
from evorec.seeds import child_seed, generator
from evorec.space.genes import Integer
from evorec.space.space import SearchSpace

CONFIG = RunConfig(problem="dice", search=SearchConfig(surrogate="none", population=6, generations=2, seed=3))


class Dice(Problem):
    """A price that is certain, and a value for it that a seed decides."""

    name, data_sha256 = "dice", "1" * 64
    objectives = (
        Objective("value", "value", "max", "", ideal=40.0, worst=0.0),
        Objective("price", "price", "min", "", ideal=0.0, worst=32.0),
    )
    constraints = ()

    def __init__(self):
        self.space = SearchSpace((Integer("price", 1, 31, default=16),))
        self.trained = []

    def shape_key(self, spec):
        return ()

    def known_metrics(self, spec):
        return {"price": float(spec["price"])}

    def value(self, price, seed):
        return price + float(generator(seed, "dice", price).normal(scale=4.0))

    def evaluate(self, specs, *, seed):
        self.trained += [(spec["price"], seed) for spec in specs]
        return [
            Outcome({"value": self.value(spec["price"], seed), "price": spec["price"] + (seed != 3) / 9})
            for spec in specs
        ]

    def baselines(self):
        return {}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The folder of a finished search."""
    fingerprint = CONFIG.fingerprint(Dice.data_sha256)
    root = tmp_path_factory.mktemp("dice")
    with RunDirectory.create(root, config=CONFIG, fingerprint=fingerprint, environment={}) as run:
        search(Dice(), CONFIG.search, run=run)
        return run.path


@pytest.fixture
def path(searched, tmp_path):
    return shutil.copytree(searched, tmp_path / "run")


def fresh_seed(number):
    return child_seed(3, "confirm", number) % LARGEST_SEED


def test_members_are_trained_with_fresh_seeds_and_compared_by_their_means(path):
    with RunDirectory.open(path) as run:
        members = {member.key: member for member in run.members()}
        found = confirm(run, problem := Dice(), seeds=3)
        prices = {key: member.spec["price"] for key, member in members.items()}
        by_hand = {key: [problem.value(price, fresh_seed(n)) for n in range(3)] for key, price in prices.items()}
        for key, member in found.members.items():
            assert member.claimed == members[key].metrics
            assert member.means["value"] == pytest.approx(sum(by_hand[key]) / 3)
            assert member.sds["value"] == pytest.approx(np.std(by_hand[key], ddof=1))
            assert (member.means["price"], member.sds["price"]) == (prices[key], 0.0)
            dominated = any(
                prices[other] < prices[key] and sum(by_hand[other]) >= sum(by_hand[key]) for other in members
            )
            assert member.standing == ("dominated" if dominated else "member")
        assert 0 < found.share < 1, "the example shows both"
        assert read_confirmed(run) == found
        assert sorted(problem.trained) == sorted((p, fresh_seed(n)) for p in prices.values() for n in range(3))
        confirm(run, again := Dice(), seeds=3)
        confirm(run, again, seeds=4)
        assert sorted(again.trained) == sorted((p, fresh_seed(3)) for p in prices.values())


class Crash(BaseException):
    """Stands for the death of the process: nothing in evorec catches it."""


def test_a_call_that_dies_at_any_write_goes_on_and_repeats_no_recorded_training(searched, tmp_path, monkeypatch):
    whole = shutil.copytree(searched, tmp_path / "whole")
    with RunDirectory.open(whole) as run:
        expected = confirm(run, Dice(), seeds=2, chunk=2)
        n_stacks = sum(kind == FRESH for _, kind, _ in run.ledger.events())
    assert n_stacks >= 4
    record = RunDirectory.add_fresh
    for dies_at in range(n_stacks):
        path, writes_first = shutil.copytree(searched, tmp_path / str(dies_at)), dies_at % 2
        calls = []

        def fragile(self, *arguments, dies_at=dies_at, writes_first=writes_first, calls=calls):
            calls.append(1)
            if len(calls) <= dies_at or writes_first:
                record(self, *arguments)
            if len(calls) > dies_at:
                raise Crash

        monkeypatch.setattr(RunDirectory, "add_fresh", fragile)
        with suppress(Crash), RunDirectory.open(path) as run:
            confirm(run, Dice(), seeds=2, chunk=2)
        monkeypatch.setattr(RunDirectory, "add_fresh", record)
        with RunDirectory.open(path) as run:
            n_before = sum(map(len, run.fresh().values()))
            assert confirm(run, problem := Dice(), seeds=2, chunk=2) == expected
        assert n_before >= dies_at + writes_first
        assert len(problem.trained) == 2 * len(expected.members) - n_before


def test_a_signal_ends_the_call_after_a_stack(path):
    with RunDirectory.open(path) as run:
        with pytest.raises(Interruption, match=r"fresh seed 1 of 2; `evorec confirm .* --seeds 2` goes on"):
            confirm(run, problem := Dice(), seeds=2, chunk=2, stop=lambda: True)
        assert 0 < len(problem.trained) == sum(map(len, run.fresh().values())) <= 2
        assert read_confirmed(run) is None


def test_a_full_disk_is_an_interruption_and_the_rows_before_it_stay(path):
    with RunDirectory.open(path) as run:
        n_pages = run.ledger._db.execute("PRAGMA page_count").fetchone()[0]
        run.ledger._db.execute(f"PRAGMA max_page_count = {n_pages}")
        with pytest.raises(Interruption, match="make room"):
            confirm(run, Dice(), seeds=200)
        n_done = min(map(len, run.fresh().values()))
    with RunDirectory.open(path) as run:
        found = confirm(run, problem := Dice(), seeds=n_done + 1)
        assert {seed for _, seed in problem.trained} == {fresh_seed(n_done)}
        assert found.n_seeds == n_done + 1


def test_a_row_that_was_changed_is_refused(path):
    with RunDirectory.open(path) as run:
        confirm(run, Dice())
    with sqlite3.connect(path / "ledger.sqlite") as database:
        database.execute(
            "UPDATE events SET payload = replace(payload, '\"price\": 1', '\"price\": 2') WHERE kind = 'fresh'"
        )
    with pytest.raises(RunError, match="of events has changed since it was written"):
        RunDirectory.open(path)


def test_an_extended_search_is_confirmed_again_for_its_new_members_only(path):
    longer = CONFIG.search.model_copy(update={"generations": 4})
    with RunDirectory.open(path) as run:
        confirm(run, Dice(), seeds=1)
        before = set(run.fresh())
        search(Dice(), longer, run=run)
        assert any(kind == EXTENSION for _, kind, _ in run.ledger.events())
        new = {member.spec["price"] for member in run.members() if member.key not in before}
        assert new, "the example shows it"
        assert read_confirmed(run) is None
        confirm(run, problem := Dice(), seeds=1)
        assert {price for price, _ in problem.trained} == new


def test_an_unfinished_run_another_problem_and_an_opened_test_are_refused(path, monkeypatch):
    with RunDirectory.open(path) as run:
        other = Dice()
        other.data_sha256 = "2" * 64
        with pytest.raises(RunError, match="another configuration or data set than problem dice"):
            confirm(run, other)
        confirm(run, Dice(), seeds=1)
        run.ledger.record_event(0, "opened", {"picks": {}, "seeds": 1, "settings": {}, "opened_at": "now"})
        assert confirm(run, Dice(), seeds=1).n_seeds == 1  # shows what is there
        with pytest.raises(RunError, match="was opened, so its members are chosen"):
            confirm(run, Dice(), seeds=2)
        monkeypatch.setattr(RunDirectory, "finished", False)
        with pytest.raises(RunError, match=r"is not finished; `evorec resume"):
            confirm(run, Dice())


def test_the_command_says_that_a_value_without_a_seed_needs_no_confirmation(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["search.population=8", "search.generations=2", "search.surrogate=none"]
    assert main(["search", "-p", "analytic", "-q", *(word for text in small for word in ("--set", text))]) == 0
    (path,) = (tmp_path / "runs").glob("analytic-*")
    capsys.readouterr()
    assert main(["confirm", str(path), "--seeds", "5"]) == 0
    out, err = capsys.readouterr()
    assert "do not depend on the seed, so there is nothing to confirm" in out
    assert "fresh seed 1 of 5" in err
    assert "fresh seed 2" not in err
    assert main(["front", str(path), "--format", "json", "-q"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["confirmed"]["depends_on_seed"] is False
    assert "standing" not in shown["front"][0]
