"""What a genome decodes to: the typed settings of one multi-task recommender, and the space they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, final

from evorec.errors import ConfigError
from evorec.space.genes import Boolean, Conditional, Integer, Real, Simplex
from evorec.space.space import SearchSpace


@final
@dataclass(frozen=True)
class ModelSpec:
    """Settings of one member.

    Attributes:
        task_weights: loss weight of each task, ``(T,)``, sum T.
        sharing_depth: layers shared by all tasks, 0..L; 0 = towers from the embeddings on, L = shared bottom.
        embedding_dim: E.
        width: units per layer W.
        dropout: rate after the embeddings and after every layer, in [0, 1).
        learning_rate: AdamW step size of the dense parts.
        embedding_learning_rate: AdamW step size of the embedding table.
        embedding_decay: decoupled weight decay λ of the embedding table.
        dense_decay: decoupled weight decay λ of the dense weights.
        retrieval_weight: weight of the retrieval loss, outside the task simplex.
        temperature: the cosine of user and item is divided by it.
        history_weight: share of the user's past target positives in the retrieval vector; 0 = none.
        popularity_weight: share of the log-popularity prior in the retrieval score; 1 = calibrated, 0 = none.
        popularity_smoothing: positives added to every item before the logarithm.
        popularity_half_life: age in days at which a positive counts half in the prior.
        rank_blend: ρ, weight of the ranker in the list score; 0 = retrieval order.
    """

    task_weights: tuple[float, ...]
    sharing_depth: int
    embedding_dim: int
    width: int
    dropout: float
    learning_rate: float
    embedding_learning_rate: float
    embedding_decay: float
    dense_decay: float
    retrieval_weight: float
    temperature: float
    history_weight: float
    popularity_weight: float
    popularity_smoothing: float
    popularity_half_life: float
    rank_blend: float

    @classmethod
    def from_genes(cls, genes: Mapping[str, Any]) -> ModelSpec:
        """Spec from decoded genes; the switches `history` and `rerank` turn their weight to 0.

        Raises:
            ConfigError: a setting is missing or not known.
        """
        values = {name: value for name, value in genes.items() if name not in SWITCHES}
        for switch, weight in SWITCHES.items():
            if not genes.get(switch, True):
                values[weight] = 0.0
        known = {field.name for field in fields(cls)}
        missing, unknown = sorted(known - set(values)), sorted(set(values) - known)
        if missing or unknown:
            raise ConfigError(f"a model spec needs exactly {sorted(known)}; missing {missing}, unknown {unknown}")
        return cls(**{**values, "task_weights": tuple(values["task_weights"])})

    @property
    def shape(self) -> tuple[int, int]:
        """Members of equal shape train in one tensor program."""
        return self.embedding_dim, self.width


SWITCHES = {"history": "history_weight", "rerank": "rank_blend"}
"""Boolean genes -> the weight that is 0 when they are off."""


POSITIVE = (1e-12, 1e12)
"""Limits of a gene that must stay above 0, however its bounds are moved."""


def default_space(tasks: tuple[str, ...], *, n_layers: int, days: float) -> SearchSpace:
    """The search space of the multi-task recommender.

    Args:
        tasks: names of the ranked tasks.
        n_layers: L, upper bound of the sharing depth.
        days: length of the training log in days; the half-life of popularity is searched around it.
    """
    half_life = Real(
        "popularity_half_life", days / 8, days * 8, scale="log", default=days, unit="days", limits=POSITIVE,
        text="age at which a positive counts half in the popularity prior",
    )  # fmt: skip
    return SearchSpace(
        (
            Simplex("task_weights", parts=tasks, text="loss weight of each task"),
            Integer(
                "sharing_depth", 0, n_layers, default=max(n_layers - 1, 0), limits=(0, n_layers),
                text="layers shared by all tasks; 0 = towers from the embeddings on",
            ),
            Integer("embedding_dim", 8, 32, scale="log2", default=16, limits=(2, 1024), text="length of the vectors"),
            Integer("width", 16, 64, scale="log2", default=32, limits=(2, 4096), text="units per layer"),
            Real("dropout", 0.0, 0.5, default=0.1, limits=(0.0, 0.95), text="rate after embeddings and layers"),
            _log("learning_rate", 5e-4, 1e-2, 3e-3, "step size of the dense parts"),
            _log("embedding_learning_rate", 5e-4, 1e-2, 3e-3, "step size of the embedding table"),
            _log("embedding_decay", 1e-3, 1e1, 1e-2, "decoupled weight decay of the embedding table"),
            _log("dense_decay", 1e-3, 1e1, 1e-2, "decoupled weight decay of the dense weights"),
            _log("retrieval_weight", 1e-1, 1e1, 1.0, "weight of the retrieval loss"),
            _log("temperature", 0.05, 0.5, 0.2, "divides the cosine of user and item"),
            Boolean("history", default=True, text="past positives enter the user's retrieval vector"),
            Conditional(
                _log("history_weight", 0.3, 30.0, 3.0, "share of the past in the retrieval vector"),
                parent="history", values=(True,),
            ),
            Real(
                "popularity_weight", 0.0, 1.5, default=1.0, limits=(-10.0, 10.0),
                text="share of log popularity in the retrieval score; less is more diverse",
            ),
            _log("popularity_smoothing", 0.3, 30.0, 3.0, "positives added to every item in the popularity prior"),
            half_life,
            Boolean("rerank", default=False, text="the ranker re-orders the retrieved candidates"),
            Conditional(
                _log("rank_blend", 0.03, 1.0, 0.2, "weight of the ranker in the list score"),
                parent="rerank", values=(True,),
            ),
        )
    )  # fmt: skip


def _log(name: str, low: float, high: float, default: float, text: str) -> Real:
    return Real(name, low, high, scale="log", default=default, limits=POSITIVE, text=text)
