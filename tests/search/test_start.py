"""Searches that begin with given genomes: in the configuration, and from the front of an earlier run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from analytic import Analytic
from resume_worker import search_in
from test_resume import content

from evorec.cli.app import main
from evorec.config import RunConfig, SearchConfig, load_config
from evorec.errors import ConfigError, Interruption
from evorec.report.record import read_record
from evorec.run.directory import RunDirectory
from evorec.search.algorithm import ALGORITHMS, AlgorithmContext, Options, create_algorithm
from evorec.search.engine import search
from evorec.search.memory.table import Memory
from evorec.search.start import start_genomes, start_remark
from evorec.space.genes import Categorical, Integer, Simplex, When
from evorec.space.space import SearchSpace
from problems import analytic

SPACE = SearchSpace(
    (
        Categorical("kind", ("a", "b"), "a"),
        Integer("depth", 1, 4, default=2, condition=When("kind", ("b",))),
        Simplex("weights", ("x", "y")),
    )
)
GIVEN = ({"effort": 0.25}, {"method": "tree", "depth": 4}, {"effort": 0.25})
SMALL = ("--set", "search.population=8", "--set", "search.generations=2", "--set", "search.surrogate=none")


def test_genes_without_a_value_have_their_default_and_equal_genomes_come_once():
    X = start_genomes(SPACE, [{"kind": "b"}, {"weights": [3, 1]}, {}, {"kind": "a", "weights": [1.5, 0.5]}])
    assert [SPACE.decode(x) for x in X] == [
        {"kind": "b", "depth": 2, "weights": (1.0, 1.0)},
        {"kind": "a", "weights": (1.5, 0.5)},
        {"kind": "a", "weights": (1.0, 1.0)},
    ]


def test_every_wrong_gene_is_named_with_its_table():
    with pytest.raises(ConfigError) as caught:
        start_genomes(SPACE, [{"kind": "b"}, {"depth": 3}, {"kind": "c", "wieghts": [1, 1]}])
    assert str(caught.value).split("\n") == [
        "search.start, table 2 of 3: depth must be absent unless kind is b, got 3.",
        "search.start, table 3 of 3: kind must be one of 'a', 'b', got 'c'.",
        "search.start, table 3 of 3: wieghts is not a gene; did you mean 'weights'?",
    ]


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_begins_with_them_and_then_the_default(name):
    if name == "age_moea2":
        pytest.importorskip("numba")
    problem = Analytic()
    space, config = problem.space, SearchConfig(algorithm=name, population=12, start=GIVEN)
    context = AlgorithmContext(space, problem.objectives, (), config, Options(), set())
    asked = create_algorithm(name, context).ask()
    wanted = np.vstack([start_genomes(space, GIVEN), space.default()])
    np.testing.assert_array_equal(asked[:3], wanted)


def test_a_surrogate_with_a_memory_begins_with_them_too():
    problem = analytic.build()
    rng = np.random.default_rng(0)
    specs = [problem.space.decode(x) for x in problem.space.sample(rng, 40)]
    rows = [(spec, found.metrics) for spec, found in zip(specs, problem.evaluate(specs, seed=0), strict=True)]
    memory = Memory.of(rows, world="w", problem="analytic", data_sha256="w", steps=0, facts={})
    given = tuple({"effort": round(0.1 * i, 1)} for i in range(1, 6))
    asked: list[dict] = []

    class Noted(analytic.Analytic):
        def evaluate(self, specs, *, seed, **how):
            asked.extend(specs)
            return super().evaluate(specs, seed=seed)

    config = SearchConfig(population=8, generations=1, start=given)
    search(Noted(analytic.AnalyticConfig()), config, memory=memory)
    assert len(asked) == 8
    X = start_genomes(problem.space, given)
    wanted = [problem.space.decode(x) for x in (*X, problem.space.default())]
    assert all(spec in asked for spec in wanted)


def test_more_genomes_than_a_generation_has_are_left_out_and_counted():
    space = Analytic().space
    given = tuple({"effort": round(0.1 * i, 1)} for i in range(6))
    assert start_remark(space, given, 6) == ""
    assert start_remark(space, given, 4) == (
        "search.start has 6 genomes, and a generation has 4: the last 2 are left out."
    )
    found = search(Analytic(), SearchConfig(surrogate="none", population=4, generations=1, start=given))
    assert found.n_evaluated == 4
    assert {member.spec["effort"] for member in found.archive} <= {0.0, 0.1, 0.2, 0.3}


def test_an_algorithm_that_leaves_them_out_is_refused():
    class Own:
        def ask(self):
            return Analytic().space.sample(np.random.default_rng(0), 4)

        def tell(self, X, F, G): ...

    with pytest.raises(ConfigError, match=r"search\.start: the algorithm leaves 2 of its genomes out"):
        search(Analytic(), SearchConfig(population=4, start=GIVEN), algorithm=Own())


def test_a_search_from_given_genomes_that_is_killed_and_resumed_is_identical(tmp_path):
    config = RunConfig(
        problem="analytic",
        search=SearchConfig(surrogate="none", population=4, generations=3, seed=2, start=GIVEN),
    )
    search_in(tmp_path / "whole", config=config)
    whole = content(tmp_path / "whole", config)
    assert [row.spec["effort"] for row in whole[1]][:1] == [0.25]
    fingerprint = config.fingerprint(Analytic.data_sha256)
    for n_stacks in (1, 4):
        root, calls = tmp_path / str(n_stacks), iter([False] * n_stacks + [True] * 99)
        with (
            RunDirectory.create(root, config=config, fingerprint=fingerprint, environment={}) as run,
            pytest.raises(Interruption),
        ):
            search(
                Analytic(fault=lambda spec: "raise" if spec["method"] == "net" else None),
                config.search, run=run, chunk=3, stop=lambda calls=calls: next(calls),
            )  # fmt: skip
        with RunDirectory.open(run.path, read_only=True) as run:
            assert run.config.search.start == GIVEN
        search_in(root, config=config)
        assert content(root, config)[0] == whole[0]


def test_start_is_part_of_the_name_of_a_run_and_without_it_the_name_is_as_before():
    plain, given = SearchConfig(), SearchConfig(start=GIVEN)
    assert "start" not in plain.model_dump(mode="json")
    names = {RunConfig(search=search).fingerprint("") for search in (plain, given, SearchConfig(start=GIVEN[:1]))}
    assert len(names) == 3
    assert SearchConfig.model_validate(json.loads(json.dumps(given.model_dump(mode="json")))) == given


def test_commands_begin_with_tables_of_the_file_and_with_the_front_of_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("my.toml").write_text('problem = "analytic"\n[[search.start]]\neffort = 0.25\n[[search.start]]\nefort = 1.0\n')
    assert main(["validate", "my.toml"]) == 2
    wrong = "search.start (my.toml), table 2 of 2: efort is not a gene; did you mean 'effort'?"
    assert wrong in " ".join(capsys.readouterr().err.split())
    Path("my.toml").write_text('problem = "analytic"\n[[search.start]]\neffort = 0.25\n')
    assert main(["search", "my.toml", "--format", "json", *SMALL, "--set", "search.seed=1"]) == 0
    shown = json.loads(capsys.readouterr().out)
    first = read_record(Path(shown["run"]))
    assert first.evaluations[0].spec["effort"] == 0.25

    from_front = ["search", "my.toml", "--format", "json", *SMALL, "--start-from", shown["run"]]
    assert main(from_front) == 0
    captured = capsys.readouterr()
    second = read_record(Path(json.loads(captured.out)["run"]))
    n = len({json.dumps(spec.spec) for spec in first.members} | {json.dumps(first.evaluations[0].spec)})
    begun = [e.spec for e in second.evaluations[: min(n, 8)]]
    assert begun[1:] == [m.spec for m in first.members if m.spec != begun[0]][: len(begun) - 1]
    assert len(second.config.search.start) == 1 + len(first.members)

    assert main(from_front) == 0  # names the same run, which is finished
    captured = capsys.readouterr()
    assert json.loads(captured.out)["run"] == str(second.path)
    assert "is finished already" in captured.err

    member = first.members[-1]
    assert main([*from_front[:-1], f"{shown['run']}:{member.key[:8]}"]) == 0
    third = read_record(Path(json.loads(capsys.readouterr().out)["run"]))
    assert third.evaluations[1].spec == member.spec
    assert main([*from_front[:-1], f"{shown['run']}:nobody"]) == 2
    assert main([*from_front[:-1], "nowhere"]) == 2
    assert "nowhere is not a run directory" in capsys.readouterr().err


def test_an_unfinished_run_gives_no_genomes_to_begin_with(tmp_path, capsys):
    config = load_config(problem="analytic", overrides=[f"run.output={tmp_path}", "search.population=8"])
    with RunDirectory.create(tmp_path, config=config, fingerprint="0" * 12, environment={}) as run:
        calls = iter([False] * 2 + [True] * 9)
        with pytest.raises(Interruption):
            search(analytic.build(), config.search, run=run, stop=lambda: next(calls))
    assert main(["search", "-p", "analytic", "--start-from", str(run.path)]) == 2
    assert "is not finished, so its front may still change" in " ".join(capsys.readouterr().err.split())
