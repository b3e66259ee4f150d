"""Predictions for rows of features from a bundle without users and items, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from evorec.data.ids import listed
from evorec.errors import ConfigError, DataError, RunError
from evorec.serving.bundle import RANKER, Bundle, is_of_rows, read_bundle
from evorec.serving.consistency import check_features
from evorec.serving.encoders import Feature, Fields, Float32, Int64
from evorec.serving.graph import Graph
from evorec.serving.items import padded

ROWS_PER_CALL: Final = 4096


@final
class RowScorer:
    """A bundle of a table of rows in memory; safe to use from several threads.

    Attributes:
        manifest: of the bundle.
        version: SHA-256 of the manifest.
        path: its folder.
        tasks: the labels that it predicts.
        features: names of the features that it reads.
        ignored: names of features that were the same in all training rows, which it does not read.

    Args:
        bundle: from `read_bundle`.
    Raises:
        ConfigError: the bundle recommends items.
        RunError: the parts of the bundle do not fit together.
    """

    def __init__(self, bundle: Bundle) -> None:
        if not is_of_rows(bundle.manifest):
            raise ConfigError(
                f"bundle {bundle.path} recommends items to users; use `evorec recommend`, or evorec.load_bundle(PATH)."
            )
        self.manifest, self.version, self.path = bundle.manifest, bundle.version, bundle.path
        try:
            self.tasks = tuple(self.manifest["tasks"])
            self.ignored = frozenset(self.manifest["ignored_features"])
            stored = bundle.encoders["context"]
            width = max((one["first_column"] + one["n_columns"] for one in stored), default=0)
            check_features("row", stored, n_columns=width, n_rows=len(bundle.arrays["parameters.table"]))
            self._fields = Fields("row", [Feature(**one) for one in stored])
            self.features = tuple(one["name"] for one in stored)
            self._kinds = {one["name"]: str(one["kind"]) for one in stored}
            # A row without any value: every feature is unknown.
            self._rows, self._weights = np.zeros(width, dtype=np.int64), np.zeros(width, dtype=np.float32)
            for one in stored:
                self._rows[one["first_column"]], self._weights[one["first_column"]] = one["first_row"], 1.0
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise RunError(f"bundle {bundle.path} contradicts itself ({error!r}); export it again") from None
        self._ranker = Graph(bundle.path / RANKER, ("predictions", "outputs"))

    def __repr__(self) -> str:
        return f"RowScorer(features {', '.join(self.features)}; tasks {', '.join(self.tasks)})"

    def feature_kind(self, name: str) -> str:
        """Kind of a feature: categorical, multi_hot or linear (a number)."""
        return self._kinds[name]

    def score(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, float]]:
        """Predictions of rows.

        Args:
            rows: features by name, each; a missing feature, like a value that training did not have, is unknown.
        Returns:
            Per row the prediction of every task: a probability, or a number in the label's own unit.
        Raises:
            DataError: no row is given, a feature does not exist, or a value is of another kind.
        Example:
            >>> scorer.score([{"region": 3, "age": 41.5}])  # doctest: +SKIP
            [{'renew': 0.71, 'claim': 0.12, 'spend': 104.2}]
        """
        asked = [self._known(row) for row in listed(rows, "rows")]
        if not asked:
            raise DataError("score needs at least 1 row, got none.")
        found = self.predictions(asked)
        return [dict(zip(self.tasks, one, strict=True)) for one in found.tolist()]

    def predictions(self, rows: Sequence[Mapping[str, Any]]) -> Float32:
        """`score` as an array ``(n, T)``."""
        out = np.empty((len(rows), len(self.tasks)), dtype=np.float32)
        for start in range(0, len(rows), ROWS_PER_CALL):
            part = rows[start : start + ROWS_PER_CALL]
            found = self._ranker(self._feeds(part))[0]
            if found.shape != (len(part), len(self.tasks)):
                raise RunError(f"bundle {self.path} names {len(self.tasks)} tasks and predicts {found.shape[1]}")
            out[start : start + len(part)] = found
        if not np.isfinite(out).all():
            raise DataError("the model gives predictions that are not finite for these rows.")
        return out

    def trial(self) -> list[float]:
        """Predictions of a first request, to load everything that requests need."""
        return list(self.score([{}])[0].values())

    def _known(self, row: Any) -> Mapping[str, Any]:
        """The features of a row without those that are not read."""
        if not isinstance(row, Mapping):
            raise DataError(f"a row must be features by name, got {row!r}.")
        return {name: value for name, value in row.items() if name not in self.ignored}

    def _feeds(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, npt.NDArray[Any]]:
        bags: list[tuple[Int64, Float32]] = [self._fields.replaced(self._rows, self._weights, row) for row in rows]
        return {"context_rows": padded([bag for bag, _ in bags]), "context_weights": padded([bag for _, bag in bags])}


def load_rows(path: str | Path) -> RowScorer:
    """A scorer of rows from a bundle; every byte is checked before it is used.

    Args:
        path: folder that `evorec export` wrote for a problem without items.
    Raises:
        RunError: a file is missing, added, damaged or of another format.
        ConfigError: onnxruntime is not installed, or the bundle recommends items.
    """
    return RowScorer(read_bundle(path))
