import io
import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from example_record import FRONT, metrics, record

from evorec.errors import ConfigError
from evorec.report.frames import (
    check_ending,
    evaluations_frame,
    final_frame,
    frame_bytes,
    front_frame,
    hypervolume_frame,
)
from evorec.report.record import RunRecord

TEST = {"recall@20": {"mean": 0.2, "sd": 0.01}, "accuracy": {"mean": 0.7, "sd": 0.02}}
FINAL = {
    "picks": [{"pick": "knee", "member": "aaaa", "steps": 40, "test": TEST}],
    "baselines": {"ease": {"recall@20": 0.15}},
}


def with_genes(**genes: list[object]) -> RunRecord:
    """The three members of the example with other genes."""
    whole = record()
    specs = [dict(zip(genes, values, strict=True)) for values in zip(*genes.values(), strict=True)]
    rows = (replace(row, spec=spec) for row, spec in zip(whole.evaluations, specs, strict=True))
    return replace(whole, evaluations=tuple(rows))


def test_the_ledger_is_a_row_per_evaluation_with_its_fate() -> None:
    frame = evaluations_frame(record(failures=("no memory",), dropped=(100,)))
    assert frame["key"].to_list() == ["aaaa", "bbbb", "cccc", "f0", "d0"]
    assert frame["status"].to_list() == ["ok", "ok", "ok", "failed", "dropped"]
    assert frame["on_front"].to_list() == [True, True, True, False, False]
    assert frame["failure"].to_list()[3] == "no memory"
    assert frame["rung"].to_list() == [None, None, None, None, 100]
    assert frame["recall@20"].to_list() == [0.12, 0.11, 0.16, None, 0.9]
    assert frame["gene.width"].to_list() == [16, 32, 48, 8, 8]
    assert frame["gene.tower"].to_list() == [True, False, False, None, None]
    assert frame.columns[8:11] == ["accuracy", "recall@20", "training_flops"], "the objectives come first"


def test_the_front_is_sorted_by_the_first_objective() -> None:
    frame = front_frame(record())
    assert frame["member"].to_list() == ["bbbb", "aaaa", "cccc"]
    assert frame["name"].to_list() == ["best accuracy", "knee", "best recall@20"]
    assert frame["accuracy"].to_list() == [0.75, 0.70, 0.65]


def test_the_hypervolume_has_the_evaluations_of_each_generation() -> None:
    # three evaluations in the first generation, two in the second
    frame = hypervolume_frame(record(failures=("a", "b")))
    assert frame.rows() == [(1, 3, 0.1), (2, 5, 0.2)]


def test_test_results_have_means_and_deviations() -> None:
    frame = final_frame(record(final=FINAL))
    assert frame["name"].to_list() == ["knee", "ease"]
    assert frame["recall@20.mean"].to_list() == [0.2, 0.15]
    assert frame["accuracy.sd"].to_list() == [0.02, None]
    assert final_frame(record()).height == 0


def test_genes_keep_their_types() -> None:
    frame = evaluations_frame(
        with_genes(
            rate=[1, 0.5, None], weights=[[1, 0.5], (0.5, 0.5), None], option=["a", "b", "a"], odd=[{"x": 1}, 2, None]
        )
    )
    types = {name: frame.schema[f"gene.{name}"] for name in ("rate", "weights", "option", "odd")}
    assert types == {"rate": pl.Float64, "weights": pl.List(pl.Float64), "option": pl.String, "odd": pl.String}
    assert frame["gene.odd"].to_list() == ['{"x": 1}', "2", None]


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".parquet", ".json", ".jsonl"])
def test_every_file_reads_back_to_the_same_figures(kind: str) -> None:
    frame = evaluations_frame(with_genes(weights=[[1.0, 0.5], [0.5, 0.5], None]))
    data = io.BytesIO(frame_bytes(frame, kind))
    again = {
        ".csv": lambda: pl.read_csv(data),
        ".tsv": lambda: pl.read_csv(data, separator="\t"),
        ".parquet": lambda: pl.read_parquet(data),
        ".json": lambda: pl.DataFrame(json.loads(data.read())),
        ".jsonl": lambda: pl.read_ndjson(data),
    }[kind]()
    assert again.columns == frame.columns
    assert again["training_flops"].to_list() == [row["training_flops"] for row in FRONT.values()]
    expected = ["[1.0, 0.5]", "[0.5, 0.5]", None] if kind in (".csv", ".tsv") else [[1.0, 0.5], [0.5, 0.5], None]
    assert again["gene.weights"].to_list() == expected


def test_an_ending_without_a_format_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--out must end with one of .csv, .* got front.xls"):
        check_ending("--out", Path("front.xls"))


def test_a_run_without_a_front_has_empty_tables() -> None:
    empty = record({}, failures=("no memory",))
    assert front_frame(empty).height == 0
    assert evaluations_frame(empty)["status"].to_list() == ["failed"]
    assert metrics(1, 1, 1, 1).keys() & set(front_frame(empty).columns) == set()
