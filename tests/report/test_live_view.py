from dataclasses import replace
from pathlib import Path

import pytest
from analytic import Analytic
from example_record import FRONT, metrics, record

from evorec.config import parse_config
from evorec.errors import Interruption, RunError
from evorec.report.live_view import LiveView, best_so_far, live_json, read_live
from evorec.report.record import UNFINISHED
from evorec.run.directory import RunDirectory
from evorec.run.ledger import IN_FLIGHT
from evorec.search.engine import search

CONFIG = parse_config({"search": {"population": 4, "generations": 3}})


def opened(root: Path) -> RunDirectory:
    return RunDirectory.create(root, config=CONFIG, fingerprint=CONFIG.fingerprint("0"), environment={})


def test_a_search_is_seen_from_its_start_to_its_end(tmp_path: Path) -> None:
    """Read while another holder of the lock works, which is this process."""
    problem, states = Analytic(), []
    with opened(tmp_path) as run:
        states.append(read_live(run.path))

        def look(_: object) -> None:
            states.append(read_live(run.path))

        search(problem, CONFIG.search, run=run, progress=look)
    end = read_live(run.path)
    assert states[0].state == "starting", "no evaluation is in the ledger yet"
    going = [state for state in states if state.training is not None and state.record is not None]
    assert {state.state for state in going} == {"running"}
    assert {len(state.training.keys) for state in going if state.training} == {4}
    assert all(state.training.n_done < 4 for state in going if state.training)
    done = [len(state.record.evaluations) for state in states if state.record]
    assert done == sorted(done)
    assert all((state.left_s or 0) >= 0 for state in going)
    assert (end.state, end.training, end.left_s) == ("finished: 3 generations done", None, None)
    assert end.n_planned == 12
    assert {tuple(sorted(row.items())) for row in end.front} == {
        tuple(sorted(member.metrics.items())) for member in end.record.members
    }  # type: ignore[union-attr]


def test_an_interrupted_search_is_not_running(tmp_path: Path) -> None:
    problem = Analytic()
    with opened(tmp_path) as run, pytest.raises(Interruption):
        search(problem, CONFIG.search, run=run, stop=lambda: len(problem.stacks) > 2)
    view = read_live(run.path)
    assert (view.state, view.running, view.training) == ("interrupted", False, None)
    assert live_json(view)["planned"] == 12


def test_genomes_in_worker_processes_are_named_and_no_death_is_suspected(tmp_path: Path) -> None:
    """The search goes on in its own process after a kill of a search whose worker processes trained."""
    problem = Analytic()
    with opened(tmp_path) as run:
        with pytest.raises(Interruption):
            search(problem, CONFIG.search, run=run, stop=lambda: len(problem.stacks) > 2)
        known = [row.key for row in run.ledger.evaluations()]
        keys = [*known[-2:], "0123456789abcdef"]
        event = {"start": "later", "keys": keys, "rung": 20, "workers": 2, "isolated": True}
        run.ledger.record_event(2, IN_FLIGHT, event)
        training = read_live(run.path).training
        assert training is not None
        assert (training.n_done, training.rung, training.workers, training.isolated) == (2, 20, 2, True)
        result = search(problem, CONFIG.search, run=run)
    assert result.n_failed == 0


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run directory"):
        read_live(tmp_path)


def test_the_best_so_far_stands_beside_the_best_baseline() -> None:
    view = LiveView(Path(), record(), running=False)
    # recall: 0.16 on the front, 0.15 of ease; the baselines have no accuracy and no cost
    assert best_so_far(view) == [
        ("accuracy", 0.75, "", None), ("recall@20", 0.16, "ease", 0.15), ("cost", 2e7, "", None),
    ]  # fmt: skip


def test_the_front_of_a_running_search_has_the_newest_evaluations() -> None:
    better = metrics(0.9, 0.9, 1e6, 0.9)
    base = record({**FRONT, "dddd": better})
    view = LiveView(Path(), replace(base, state=UNFINISHED, members=base.members[:3]), running=True)
    assert view.front == (better,), "it dominates all members of the last generation"
    assert len(view.others) == 3
