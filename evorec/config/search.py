"""Section ``[search]``: the evolutionary search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from evorec.config.section import Section

MOST_GENERATIONS = 100_000
"""As many generations as the other limits allow."""
LEAST_POPULATION = 4
BASELINES = ("weighted_sum", "random")
"""Algorithms with which others are compared at equal training."""
LIMITS = ("generations", "evaluations", "flops", "gain")
"""Settings that end a search at the same generation whenever it is repeated."""
BATCH, GPU_BATCH, LEAST_BATCH = 16, 64, 8
"""Genomes per generation on a CPU; on a GPU, which trains many at once; and in a search of few evaluations."""
BATCHES = 4
"""Generations that a search of few evaluations should have: a surrogate learns from one to the next."""
BUDGET = (*LIMITS, "minutes")
"""Settings that end a search; they do not change its evaluations, so a run can be extended and keeps its name."""


class SearchConfig(Section):
    """The evolutionary search."""

    algorithm: str = Field("nsga2", examples=["nsga2", "weighted_sum", "random"])
    """nsga2, or nsga3, unsga3, sms_emoa, age_moea2, spea2, rvea, ctaea, deap_nsga2, mo_cma_es = all objectives at
    once; as baselines at equal training: weighted_sum = a genetic algorithm on a sum of the objectives, random = random
    genomes; or an algorithm of a plugin. All keep the best trade-offs that they found"""
    options: dict[str, JsonValue] = Field({})
    """settings of an algorithm of a plugin, by name"""
    mode: Literal["generations", "steady"] = "generations"
    """generations = a generation is evaluated before the next is proposed, and workers change no result; steady = every
    free worker gets new genomes at once, for workers of uneven speed: the order in which stacks end changes the search,
    and the ledger keeps it"""
    surrogate: Literal["gp", "none"] = "gp"
    """gp = a model of the objectives chooses the genomes of a generation among the offspring of the algorithm and a
    large pool of candidates; none = all offspring are evaluated, the default of weighted_sum and random, which are
    baselines"""
    memory: Literal["auto", "none"] | tuple[str, ...] = Field("auto", examples=["auto", "none", '["last.parquet"]'])
    """rows of earlier searches from which the surrogate starts: auto = those shipped with evorec and those of finished
    runs in the same folder, to which the run is added when it ends; none; or a list of files or folders"""
    selection: Literal["hypervolume", "crowding"] = "hypervolume"
    """nsga2: how survivors are chosen inside a front: hypervolume = by the contribution to the share of the box (beyond
    5 objectives, or in fronts of more than 100 genomes with 5 objectives, 400 with 4 or 5000 with 3, by crowding);
    crowding = by the distance of the neighbours"""
    weights: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """weighted_sum: weight of each objective's coordinate in its box, in the order of objectives; empty = equal
    weights"""
    penalty: float = Field(1.0, ge=0)
    """weighted_sum: penalty per unit of violated constraints, λ of f + λ g"""
    population: int = Field(0, ge=0, le=10_000)
    """genomes per generation, at least 4; 0 = 16 on a CPU and 64 on a GPU, or fewer, but at least 8, so that
    search.evaluations allow 4 generations"""
    generations: int = Field(4, ge=1, le=MOST_GENERATIONS)
    """most generations; a run that has had fewer is extended"""
    evaluations: int = Field(0, ge=0)
    """most evaluations; a generation that would exceed them is not begun; 0 = no limit"""
    flops: float = Field(0.0, ge=0)
    """most FLOPs of training; a generation that would exceed them is not begun; 0 = no limit"""
    gain: float = Field(0.0, ge=0, lt=1)
    """a generation is not begun if the surrogate expects, in nine of ten cases, that it raises the hypervolume by less
    than this share, e.g. 0.01; 0 = no limit"""
    minutes: float = Field(0.0, ge=0)
    """most minutes of the search, without the time between an interruption and its resumption; no generation is begun
    after them; 0 = no limit"""
    start: tuple[dict[str, JsonValue], ...] = Field((), examples=["[{width = 32}]"])
    """genomes that come first in the first generation, tables [[search.start]] with gene = value; genes that a table
    does not name have their default; beyond a generation the last are left out"""
    seed: int = Field(0, ge=0)
    """seed of the run: initial genomes, operators, training streams"""

    @model_validator(mode="before")
    @classmethod
    def _baselines_have_no_surrogate(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("algorithm") in BASELINES:
            return {"surrogate": "none", **given}
        return given

    @model_validator(mode="after")
    def _weights_are_of_a_sum(self) -> SearchConfig:
        if self.weights and self.algorithm != "weighted_sum":
            raise ValueError(f'only algorithm = "weighted_sum" has weights, got algorithm = "{self.algorithm}"')
        if self.weights and sum(self.weights) == 0:
            raise ValueError(f"weights must not all be 0, got {list(self.weights)}")
        return self

    @model_validator(mode="after")
    def _evaluations_are_enough_for_a_generation(self) -> SearchConfig:
        if 0 < self.population < LEAST_POPULATION:
            raise ValueError(f"population must be 0 or at least {LEAST_POPULATION}, got {self.population}")
        least = self.population or LEAST_BATCH
        if 0 < self.evaluations < least:
            raise ValueError(f"evaluations must be 0 or at least the population of {least}, got {self.evaluations}")
        return self

    @model_validator(mode="after")
    def _gain_is_of_generations(self) -> SearchConfig:
        if self.mode == "steady" and self.gain:
            raise ValueError(f'gain compares generations, so it must be 0 with mode = "steady", got {self.gain:g}')
        return self

    @property
    def most_evaluations(self) -> int:
        """Of a search that is not ended by time, FLOPs or gain; after `sized`."""
        n = self.population * self.generations
        return min(n, self.evaluations or n)

    def sized(self, device: str) -> SearchConfig:
        """The same settings with a population, which they may leave to the device and the budget.

        Args:
            device: ``cpu``, or a GPU.
        Example:
            >>> [SearchConfig(evaluations=n).sized("cpu").population for n in (0, 200, 48, 20)]
            [16, 16, 12, 8]
        """
        if self.population:
            return self
        most = BATCH if device == "cpu" else GPU_BATCH
        n = max(min(most, self.evaluations // BATCHES), LEAST_BATCH) if self.evaluations else most
        return self.model_copy(update={"population": n})

    @model_serializer(mode="wrap")
    def _without_later_settings(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs keep the fingerprint that they had before options, start and mode existed."""
        found: dict[str, Any] = dump(self)
        for name in ("options", "start"):
            if not getattr(self, name):
                found.pop(name, None)
        if self.mode == "generations":
            found.pop("mode", None)
        return found


def as_stored(search: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run's section: without a surrogate in it the run has none, as before surrogates existed."""
    return {"surrogate": "none", **search}
