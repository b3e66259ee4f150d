"""Section ``[search]``: the evolutionary search."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from evorec.config.section import Section


class SearchConfig(Section):
    """The evolutionary search."""

    algorithm: Literal["nsga2", "weighted_sum", "random"] = Field(
        "nsga2",
        description="nsga2 = many objectives at once; as baselines at equal training: weighted_sum = a genetic "
        "algorithm on one sum of the objectives, random = random genomes; all keep the best trade-offs they met",
    )
    selection: Literal["hypervolume", "crowding"] = Field(
        "hypervolume",
        description="nsga2: what decides inside a front that not all survive: hypervolume = what a genome adds to the "
        "share of the box (beyond 5 objectives, or in fronts of more than 100 genomes with 5 objectives, 400 with 4 or "
        "5000 with 3, crowding decides); crowding = how far its neighbours are",
    )
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (),
        description="weighted_sum: weight of each objective's place in its box, in the order of objectives; empty = "
        "all alike",
    )
    penalty: float = Field(
        1.0, ge=0, description="weighted_sum: what is added per unit of violated constraints, λ of f + λ g"
    )
    population: int = Field(24, ge=4, le=10_000, description="genomes per generation")
    generations: int = Field(8, ge=1, le=100_000, description="generations, the first one included")
    seed: int = Field(0, ge=0, description="seed of the run: initial genomes, operators, training streams")

    @model_validator(mode="after")
    def _weights_are_of_a_sum(self) -> SearchConfig:
        if self.weights and self.algorithm != "weighted_sum":
            raise ValueError(f'only algorithm = "weighted_sum" has weights, got algorithm = "{self.algorithm}"')
        if self.weights and sum(self.weights) == 0:
            raise ValueError(f"weights must not all be 0, got {list(self.weights)}")
        return self
