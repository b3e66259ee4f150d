"""The table of a memory: genomes of earlier searches with their validation figures, never data and never test figures.

A Parquet file with a row per evaluation:

=============  =======  ========================================================================================
world          String   data set, problem and seed; figures of a world can be compared with each other
problem        String   name of the problem
data_sha256    String   hash of the data set, to leave a data set out; its rows are not in the file
steps          Int64    training steps of the evaluation; 0 where nothing is trained
facts          String   JSON object of numbers: size of the data set, e.g. users, items, interactions, tasks
spec           String   JSON object: the decoded genome, active genes only
metrics        String   JSON object: validation figures by metric
evorec         String   version that measured them
=============  =======  ========================================================================================
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, final

import polars as pl

from evorec.errors import DataError

SCHEMA: Final[Mapping[str, type[pl.DataType]]] = {
    "world": pl.String, "problem": pl.String, "data_sha256": pl.String, "steps": pl.Int64, "facts": pl.String,
    "spec": pl.String, "metrics": pl.String, "evorec": pl.String,
}  # fmt: skip


@final
@dataclass(frozen=True)
class Memory:
    """Rows of earlier searches.

    Attributes:
        frame: columns of `SCHEMA`.
    """

    frame: pl.DataFrame

    def __len__(self) -> int:
        return self.frame.height

    @classmethod
    def empty(cls) -> Memory:
        """No rows."""
        return cls(pl.DataFrame(schema=SCHEMA))

    @classmethod
    def of(
        cls,
        evaluations: Iterable[tuple[Mapping[str, Any], Mapping[str, float]]],
        *,
        world: str,
        problem: str,
        data_sha256: str,
        steps: int,
        facts: Mapping[str, float],
    ) -> Memory:
        """Evaluations of a search.

        Args:
            evaluations: pairs of spec and validation metrics of evaluations that succeeded and were trained to the end.
            world, problem, data_sha256, steps, facts: see the columns.
        """
        common = {
            "world": world,
            "problem": problem,
            "data_sha256": data_sha256,
            "steps": steps,
            "facts": json.dumps(dict(facts), sort_keys=True),
            "evorec": metadata.version("evorec"),
        }
        rows = [
            {**common, "spec": json.dumps(dict(spec), sort_keys=True), "metrics": json.dumps(dict(metrics))}
            for spec, metrics in evaluations
        ]
        return cls(pl.DataFrame(rows, schema=SCHEMA))

    @classmethod
    def read(cls, path: Path) -> Memory:
        """A memory from its file.

        Raises:
            DataError: it cannot be read, or is not a memory.
        """
        try:
            return cls.from_bytes(path.read_bytes(), source=str(path))
        except OSError as error:
            raise DataError(f"memory {path} cannot be read: {error}") from None

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str) -> Memory:
        """A memory from the bytes of its file.

        Args:
            data: a Parquet file.
            source: named in errors.
        Raises:
            DataError: it cannot be read, or is not a memory.
        """
        try:
            frame = pl.read_parquet(io.BytesIO(data))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(f"memory {source} cannot be read as Parquet: {error}") from None
        different = [
            f"{name}: {frame.schema.get(name)}" for name, kind in SCHEMA.items() if frame.schema.get(name) != kind
        ]
        if different:
            raise DataError(f"memory {source} must have the columns {', '.join(SCHEMA)}; got {', '.join(different)}.")
        for column in ("facts", "spec", "metrics"):
            for row, text in enumerate(frame[column]):
                try:
                    is_object = isinstance(json.loads(text), dict)
                except (TypeError, ValueError):
                    is_object = False
                if not is_object:
                    raise DataError(
                        f"memory {source}, row {row}, column {column} must be a JSON object, got {text!r:.80}."
                    )
        return cls(frame.select(list(SCHEMA)))

    def to_bytes(self) -> bytes:
        """The rows as a Parquet file."""
        buffer = io.BytesIO()
        self.frame.write_parquet(buffer, compression="zstd", compression_level=19)
        return buffer.getvalue()

    @classmethod
    def joined(cls, memories: Sequence[Memory]) -> Memory:
        """All rows of several memories, each genome of a world once."""
        if not memories:
            return cls.empty()
        frame = pl.concat([memory.frame for memory in memories])
        return cls(frame.unique(subset=["world", "spec", "steps"], keep="first", maintain_order=True))

    def without(self, *, data_sha256: str | None = None, problem: str | None = None) -> Memory:
        """The rows of other data sets and other problems."""
        frame = self.frame
        if data_sha256 is not None:
            frame = frame.filter(pl.col("data_sha256") != data_sha256)
        if problem is not None:
            frame = frame.filter(pl.col("problem") != problem)
        return Memory(frame)

    def worlds(self) -> pl.DataFrame:
        """A row per world: ``world``, ``problem``, ``rows``, ``steps``."""
        return self.frame.group_by("world", maintain_order=True).agg(
            pl.col("problem").first(), pl.len().alias("rows"), pl.col("steps").max()
        )
