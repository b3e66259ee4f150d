"""The command score: predictions for rows from a bundle of a table of rows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from evorec.cli.app import SHIP, command
from evorec.cli.bundles import Bundle, pairs
from evorec.cli.output import Output
from evorec.errors import ConfigError


@command(
    panel=SHIP,
    order=55,
    examples=(
        "evorec score bundles/knee --feature region=north --feature age=41",
        "evorec score bundles/knee --rows contracts.csv --out scores.csv",
    ),
)
def score(
    output: Output,
    bundle: Bundle,
    feature: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Feature of a row; repeatable.", show_default=False)
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            help="CSV, TSV, JSON lines or Parquet with the features as columns, for many rows; needs --out.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help=".parquet, .csv, .tsv or .jsonl to write for --rows.", show_default=False)
    ] = None,
) -> None:
    """Predict the labels of rows from a bundle of a table without users and items: of a single row, or of a file."""
    from evorec.serving.row_batch import score_table
    from evorec.serving.rows import load_rows

    if (rows is None) != (out is None) or (rows is None) == (not feature):
        raise ConfigError("score needs --feature NAME=VALUE, or --rows FILE --out FILE.")
    scorer = load_rows(bundle)
    if rows is None or out is None:
        given: dict[str, Any] = {
            name: values if len(values) > 1 else values[0] for name, values in pairs(feature or []).items()
        }
        (found,) = scorer.score([given])
        output.result(found, text="\n".join(f"{task} {value:.6g}" for task, value in found.items()))
        return
    start = time.perf_counter()
    done = score_table(scorer, rows, out, progress=lambda n: output.note(f"{n:,} rows", level=1))
    seconds = time.perf_counter() - start
    if done.missing:
        output.note(f"{rows} has no column {', '.join(done.missing)}: unknown in every row", style="yellow")
    if done.unused:
        output.note(f"not read: {', '.join(done.unused)}", level=1)
    output.note(f"{done.n_rows:,} rows in {seconds:.1f} s, {done.n_rows / seconds:,.0f} per second")
    output.result({"rows": done.n_rows, "missing": list(done.missing), "out": str(out)}, text=str(out))
