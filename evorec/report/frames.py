"""The ledger and the front of a run as polars frames, and the files that hold them.

Metrics are columns of their own name. The genes of a spec are columns ``gene.NAME``, so that no gene hides a metric; a
gene that is not active is null.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from evorec.errors import ConfigError
from evorec.report.record import RunRecord
from evorec.report.run_tables import front_table
from evorec.report.verdict import names_of

GENE: Final = "gene."
"""Prefix of the columns of genes."""


def evaluations_frame(record: RunRecord) -> pl.DataFrame:
    """All evaluations in the order of proposal, failed and dropped evaluations included.

    Returns:
        ``number`` from 0, ``key``, ``generation``, ``status`` (``ok``, ``dropped`` or ``failed``), ``on_front``,
        ``rung`` (steps after which it was dropped or failed), ``failure`` (its cause), ``seconds``, the metrics, and
        the genes. The metrics of a dropped evaluation are those of its rung; those of a member are the figures that
        the search saw.
    """
    members = {member.key for member in record.members}
    rows = record.evaluations
    facts = pl.DataFrame(
        {
            "number": [row.seq for row in rows],
            "key": [row.key for row in rows],
            "generation": [row.generation for row in rows],
            "status": [row.status for row in rows],
            "on_front": [row.key in members for row in rows],
            "rung": [row.rung for row in rows],
            "failure": [row.failure for row in rows],
            "seconds": [row.seconds for row in rows],
        },
        schema={
            "number": pl.Int64, "key": pl.String, "generation": pl.Int64, "status": pl.String, "on_front": pl.Boolean,
            "rung": pl.Int64, "failure": pl.String, "seconds": pl.Float64,
        },
    )  # fmt: skip
    return pl.concat(
        [facts, _metrics(record, [row.metrics or {} for row in rows]), _genes([row.spec for row in rows])],
        how="horizontal",
    )


def front_frame(record: RunRecord) -> pl.DataFrame:
    """The members of the front on validation data, best first in the first objective.

    Returns:
        ``member``, its ``name`` on the page of the run, ``generation``, the metrics with the objectives first, after
        `evorec confirm` ``standing`` and for each metric ``METRIC.mean`` and ``METRIC.sd`` over the fresh seeds, and
        the genes.
    """
    keys = [row.name for row in front_table(record).rows if row.kind == "member"]
    members = {member.key: member for member in record.members}
    names, generations = names_of(record), {row.key: row.generation for row in record.evaluations}
    facts = pl.DataFrame(
        {
            "member": keys,
            "name": [names[key].name for key in keys],
            "generation": [generations.get(key) for key in keys],
        },
        schema={"member": pl.String, "name": pl.String, "generation": pl.Int64},
    )
    parts = [facts, _metrics(record, [members[key].metrics for key in keys])]
    if record.confirmed is not None:
        found = [record.confirmed.members[key] for key in keys]
        parts.append(pl.DataFrame({"standing": [one.standing for one in found]}, schema={"standing": pl.String}))
        spread = [_with_spread({name: (one.means[name], one.sds[name]) for name in one.means}) for one in found]
        parts.append(_metrics(record, spread))
    return pl.concat([*parts, _genes([members[key].spec for key in keys])], how="horizontal")


def baselines_frame(record: RunRecord) -> pl.DataFrame:
    """``baseline`` and its metrics on validation data."""
    names = pl.DataFrame({"baseline": list(record.baselines)}, schema={"baseline": pl.String})
    return pl.concat([names, _metrics(record, list(record.baselines.values()))], how="horizontal")


def hypervolume_frame(record: RunRecord) -> pl.DataFrame:
    """``generation``, ``evaluations`` until its end, and ``hypervolume``, the share of the box after it."""
    generations = range(1, len(record.hypervolume) + 1)
    return pl.DataFrame(
        {
            "generation": generations,
            "evaluations": evaluations_until(record),
            "hypervolume": record.hypervolume,
        },
        schema={"generation": pl.Int64, "evaluations": pl.Int64, "hypervolume": pl.Float64},
    )


def evaluations_until(record: RunRecord) -> list[int]:
    """Number of evaluations at the end of each complete generation."""
    counts = [0] * (len(record.hypervolume) + 1)
    for row in record.evaluations:
        if row.generation < len(counts):
            counts[row.generation] += 1
    return [sum(counts[: last + 1]) for last in range(1, len(counts))]


def final_frame(record: RunRecord) -> pl.DataFrame:
    """The results on the test, as `evorec finalize` measured them.

    Returns:
        ``name`` of the pick, ensemble or baseline, ``kind``, ``member``, ``steps`` of the training, and for each metric
        ``METRIC.mean`` and ``METRIC.sd`` over the seeds; a baseline has no deviation. No rows before `finalize`.
    """
    final: Mapping[str, Any] = record.final or {"picks": (), "baselines": {}}
    rows = [
        (entry["pick"], "pick", entry["member"], entry.get("steps"), _found(entry["test"])) for entry in final["picks"]
    ]
    rows += [
        (entry["ensemble"], "ensemble", entry["ensemble"], None, _found(entry["test"]))
        for entry in final.get("ensembles", ())
    ]
    rows += [
        (name, "baseline", None, None, _with_spread({key: (value, None) for key, value in metrics.items()}))
        for name, metrics in final["baselines"].items()
    ]
    facts = pl.DataFrame(
        [row[:4] for row in rows],
        schema={"name": pl.String, "kind": pl.String, "member": pl.String, "steps": pl.Int64},
        orient="row",
    )
    return pl.concat([facts, _metrics(record, [row[4] for row in rows])], how="horizontal")


FRAMES: Final[Mapping[str, Callable[[RunRecord], pl.DataFrame]]] = {
    "front": front_frame,
    "evaluations": evaluations_frame,
    "baselines": baselines_frame,
    "hypervolume": hypervolume_frame,
    "final": final_frame,
}
"""The frames of a run by name."""


def frame_bytes(frame: pl.DataFrame, kind: str) -> bytes:
    """A frame as the content of a file.

    Args:
        frame: of this module.
        kind: ending of the file: ``.csv``, ``.tsv``, ``.parquet``, ``.json`` (a list of rows) or ``.jsonl``. A gene
            with several values is a list in Parquet and JSON, and its JSON text in CSV and TSV.
    Raises:
        ConfigError: any other ending.
    """
    buffer = io.BytesIO()
    if kind == ".parquet":
        frame.write_parquet(buffer)
    elif kind == ".json":
        buffer.write(json.dumps(frame.to_dicts(), ensure_ascii=False, indent=1).encode() + b"\n")
    elif kind == ".jsonl":
        frame.write_ndjson(buffer)
    elif kind in (".csv", ".tsv"):
        lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List)]
        texts = [
            pl.Series(
                name, [None if value is None else json.dumps(value.to_list()) for value in frame[name]], pl.String
            )
            for name in lists
        ]
        frame.with_columns(texts).write_csv(buffer, separator="," if kind == ".csv" else "\t")
    else:
        raise ConfigError(f"a table is written as {', '.join(ENDINGS)}, got the ending {kind or 'none'!r}")
    return buffer.getvalue()


ENDINGS: Final = (".csv", ".tsv", ".parquet", ".json", ".jsonl")
"""Endings of the files that `frame_bytes` writes."""


def check_ending(option: str, path: Path) -> None:
    """Check that `frame_bytes` writes such files.

    Raises:
        ConfigError: it does not.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"{option} must end with one of {', '.join(ENDINGS)}, got {path.name}")


def _metrics(record: RunRecord, rows: Sequence[Mapping[str, float | None]]) -> pl.DataFrame:
    """A column per metric, the objectives first, then in the order in which they appear."""
    measured = dict.fromkeys(name for row in rows for name in row)
    first = [f"{o.metric}{end}" for o in record.objectives for end in ("", ".mean", ".sd")]
    names = [*(name for name in first if name in measured), *(name for name in measured if name not in first)]
    return pl.DataFrame(
        {name: [row.get(name) for row in rows] for name in names}, schema=dict.fromkeys(names, pl.Float64)
    )


def _found(test: Mapping[str, Mapping[str, float]]) -> dict[str, float | None]:
    return _with_spread({name: (found["mean"], found["sd"]) for name, found in test.items()})


def _with_spread(found: Mapping[str, tuple[float, float | None]]) -> dict[str, float | None]:
    return {
        f"{name}.{kind}": value
        for name, pair in found.items()
        for kind, value in zip(("mean", "sd"), pair, strict=True)
    }


def _genes(specs: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    names = dict.fromkeys(name for spec in specs for name in spec)
    return pl.DataFrame([_gene(f"{GENE}{name}", [spec.get(name) for spec in specs]) for name in names])


def _gene(name: str, values: Iterable[Any]) -> pl.Series:
    """The values of a gene: booleans, numbers or texts, lists of them, or JSON texts of anything else."""
    values = [list(value) if isinstance(value, tuple) else value for value in values]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {list}:
        inner = {type(part) for value in values if value is not None for part in value}
        if (dtype := _dtype(inner)) is not None:
            return pl.Series(name, values, pl.List(dtype))
    elif (dtype := _dtype(kinds)) is not None:
        return pl.Series(name, values, dtype)
    return pl.Series(name, [None if value is None else json.dumps(value) for value in values], pl.String)


def _dtype(kinds: set[type]) -> Any:
    """The type of a column of such values; None if they have none in common."""
    if kinds == {int, float}:
        return pl.Float64
    types = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64, str: pl.String}
    return types.get(next(iter(kinds))) if len(kinds) == 1 else None
