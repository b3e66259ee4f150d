"""Searches whose genomes begin with the weights of earlier genomes, on a problem that only pretends to train."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from analytic import Analytic

from evorec.config import RunConfig, SearchConfig
from evorec.errors import Interruption, RunError
from evorec.problem import Outcome, Problem
from evorec.report.record import read_record
from evorec.report.run_tables import inheritance_table
from evorec.run.directory import RunDirectory, run_path
from evorec.search.engine import search
from evorec.search.memory.library import rows_of

CONFIG = RunConfig(
    problem="analytic", search=SearchConfig(surrogate="none", population=8, generations=4, seed=3, memory="none")
)
FINGERPRINT = CONFIG.fingerprint(Analytic.data_sha256)
SHARE = 0.25
"""Of the parent's weight that an heir begins with, and gains as quality."""


class Heirs(Problem):
    """The analytic landscape; the weight of a genome is its quality, and an heir gains a share of its parent's."""

    name, data_sha256, inherits = "analytic", Analytic.data_sha256, True

    def __init__(self, rungs=(), fails_from_scratch=None):
        inner = Analytic()
        self.space, self.objectives, self.constraints = inner.space, inner.objectives, ()
        self.rungs, self._inner, self._fails, self.n_trained = tuple(rungs), inner, fails_from_scratch, 0

    def shape_key(self, spec):
        return ()

    def inheritance_key(self, spec):
        return spec["bias"]

    def evaluate(self, specs, *, seed, rung=None, states=None, parents):
        self.n_trained += len(specs)
        out = []
        for member, found in enumerate(self._inner.evaluate(specs, seed=seed)):
            parent = parents[member]
            start = 0.0 if parent is None else SHARE * float(parent["w"][0])
            if states is not None:
                assert states[member] == start, "the state at a rung and the parent tell the same"
            if specs[member] == self._fails and parent is None:
                out.append(Outcome(None, "diverged"))
                continue
            quality = found.metrics["quality"] + start - (0.1 if rung is not None else 0.0)
            metrics = {"quality": quality, "cost": found.metrics["cost"]}
            reached = None if rung is None else self.rungs[rung]
            weights = None if rung is not None else {"w": np.array([quality])}
            out.append(Outcome(metrics, weights=weights, rung=reached, state=start))
        return out

    def baselines(self):
        return {}


def search_in(root, problem=None, **options):
    path = run_path(root, CONFIG, FINGERPRINT)
    begun = RunDirectory.exists(path)
    run = (
        RunDirectory.open(path)
        if begun
        else RunDirectory.create(root, config=CONFIG, fingerprint=FINGERPRINT, environment={})
    )
    with run:
        return search(problem or Heirs(), CONFIG.search, run=run, **options)


def stopped_after(root, n_stacks, problem=None):
    calls = iter([False] * n_stacks + [True] * 99)
    with pytest.raises(Interruption):
        search_in(root, problem, stop=lambda: next(calls), chunk=4)
    return run_path(root, CONFIG, FINGERPRINT)


def content(root):
    path = run_path(root, CONFIG, FINGERPRINT)
    with RunDirectory.open(path, read_only=True) as run:
        rows = [replace(evaluation, seconds=0.0) for evaluation in run.ledger.evaluations()]
        scratch = run.from_scratch()
    files = {str(f.relative_to(path)): f.read_bytes() for f in path.glob("archive/*/*")}
    return rows, scratch, files, (path / "summary.json").read_bytes()


def test_a_genome_inherits_from_the_nearest_earlier_genome_that_fits_and_its_row_says_so(tmp_path):
    problem = Heirs()
    search_in(tmp_path, problem)
    rows = content(tmp_path)[0]
    by_key = {row.key: row for row in rows}
    n_heirs = 0
    for row in rows:
        own = problem._inner.evaluate([row.spec], seed=3)[0].metrics["quality"]
        if row.generation == 1:
            assert "parent" not in row.extra
            assert row.metrics["quality"] == own
            continue
        parent = by_key[row.extra["parent"]["key"]]
        assert parent.generation < row.generation
        assert parent.spec["bias"] == row.spec["bias"]
        assert row.extra["parent"]["weights_sha256"] == parent.extra["weights_sha256"]
        assert row.metrics["quality"] == own + SHARE * parent.metrics["quality"]
        n_heirs += 1

        def distance(other, row=row):
            parts = []
            for gene in problem.space.genes:
                columns = problem.space.slices[gene.name]
                a, b = (gene.features(np.array([x.genome])[:, columns]) for x in (row, other))
                parts.append(((a - b) ** 2).sum())
            return sum(parts)

        fits = [r for r in rows if r.generation < row.generation and r.spec["bias"] == row.spec["bias"]]
        assert distance(parent) == pytest.approx(min(map(distance, fits)))
    assert n_heirs == 24


def test_the_front_is_trained_from_scratch_and_both_figures_are_kept(tmp_path):
    problem = Heirs()
    found = search_in(tmp_path, problem)
    path = run_path(tmp_path, CONFIG, FINGERPRINT)
    rows, scratch, _, _ = content(tmp_path)
    heirs = {row.key: row for row in rows if "parent" in row.extra}
    members = {member.key: member for member in found.archive}
    assert set(scratch) == set(members) & set(heirs)
    assert scratch
    for key, metrics in scratch.items():
        assert metrics["quality"] == problem._inner.evaluate([heirs[key].spec], seed=3)[0].metrics["quality"]
        assert members[key].metrics == metrics
        assert members[key].extra["inherited"] == heirs[key].metrics
    record = read_record(path, check=True)
    assert {m.key: m.metrics for m in record.members} == {key: member.metrics for key, member in members.items()}
    table = inheritance_table(record)
    assert [column.key for column in table.columns] == ["quality, inherited", "quality, from scratch"]
    assert {row.name for row in table.rows} == {*scratch, "rank correlation"}
    with RunDirectory.open(path, read_only=True) as run:
        for key, metrics in scratch.items():
            assert run.read_weights(key)["w"].tolist() == [metrics["quality"]]
        remembered = rows_of(run).frame
    assert len(remembered) == 8 + len(scratch)
    assert not (path / "parents").exists()


@pytest.mark.parametrize("rungs", [(), (3,)])
def test_stopped_anywhere_and_resumed_the_run_is_identical(rungs, tmp_path):
    search_in(tmp_path / "whole", Heirs(rungs))
    whole = content(tmp_path / "whole")
    assert not rungs or any(row.dropped and "parent" in row.extra for row in whole[0])
    for n_stacks in (4, 9, 16, 17):
        root = tmp_path / str(n_stacks)
        with suppress(pytest.fail.Exception):  # stopped too late to matter
            stopped_after(root, n_stacks, Heirs(rungs))
        search_in(root, Heirs(rungs), chunk=2)
        assert content(root) == whole


def test_a_lost_member_is_trained_again_from_the_same_start(tmp_path):
    search_in(tmp_path / "whole")
    path = stopped_after(tmp_path / "lost", 12)
    archive = next(folder for folder in (path / "archive").iterdir() if folder.name != ".staged")
    (archive / "weights.safetensors").unlink()
    search_in(tmp_path / "lost")
    assert content(tmp_path / "lost") == content(tmp_path / "whole")
    member = next(iter(content(tmp_path / "lost")[1]))
    (path / "archive" / member / "weights.safetensors").unlink()  # now with weights from scratch
    search_in(tmp_path / "lost")
    assert content(tmp_path / "lost") == content(tmp_path / "whole")


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"x")])
def test_lost_or_damaged_weights_of_a_parent_end_the_search(damage, tmp_path):
    path = stopped_after(tmp_path, 9)
    for file in (path / "parents").iterdir():
        damage(file)
    with pytest.raises(RunError, match=r"safetensors is damaged or missing.*search again"):
        search_in(tmp_path)


def test_inherited_weights_are_not_exported_and_an_ended_search_is_not_extended(tmp_path):
    path = stopped_after(tmp_path, 12)
    with RunDirectory.open(path, read_only=True) as run:
        heirs = [member.key for member in run.members() if member.inherits]
        with pytest.raises(RunError, match="has inherited weights, and is trained from scratch when the search ends"):
            run.read_weights(heirs[0])
    search_in(tmp_path)
    longer = CONFIG.search.model_copy(update={"generations": 9})
    with RunDirectory.open(path) as run, pytest.raises(RunError, match="cannot be extended: its genomes inherit"):
        search(Heirs(), longer, run=run)


def test_a_member_that_fails_from_scratch_leaves_the_front(tmp_path):
    gone, *others = (member for member in search(Heirs(), CONFIG.search).archive if "parent" in member.extra)
    found = search_in(tmp_path, Heirs(fails_from_scratch=gone.spec))
    _, scratch, _, _ = content(tmp_path)
    assert scratch[gone.key] is None
    assert {member.key for member in others} == set(scratch) - {gone.key}
    record = read_record(run_path(tmp_path, CONFIG, FINGERPRINT), check=True)
    assert [member.key for member in record.members] == [member.key for member in found.archive]
    assert gone.key not in {member.key for member in found.archive}


def test_without_a_run_directory_the_result_is_the_same(tmp_path):
    in_memory = search(Heirs(), CONFIG.search)
    on_disk = search_in(tmp_path)
    assert [(m.key, m.metrics) for m in in_memory.archive] == [(m.key, m.metrics) for m in on_disk.archive]
