"""The settings of any search; a problem that has more settings extends `RunConfig`."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr

from evorec.config.execution import ExecutionConfig
from evorec.config.origins import Origins
from evorec.config.search import BUDGET, SearchConfig
from evorec.config.section import Section
from evorec.config.space import Box, GeneOverride
from evorec.plugins import code_sha256


class RunConfig(Section):
    """Settings of any search, whatever its problem evaluates.

    A problem module names the class of its configuration in ``CONFIG``; without it, `RecommenderConfig` is used.
    """

    NOT_RESULTS: ClassVar[Any] = {"run": True}
    """Settings that change no result of the search, as pydantic's `exclude`."""

    problem: str = "feed"
    """an installed problem (`evorec problems`), or a Python file with a function build, or FILE.py:FUNCTION"""
    plugins: tuple[str, ...] = ()
    """Python files and modules to import first; they register metrics, mechanisms, algorithms, ..."""
    objectives: tuple[str, ...] = ()
    """metrics to optimise"""
    constraints: tuple[str, ...] = ()
    """"METRIC >= NUMBER" or "METRIC >= NUMBER * BASELINE"; also <="""
    space: dict[str, GeneOverride] = Field({})
    """per gene: a value fixes it, {low, high} replaces its bounds, a list of texts restricts its options"""
    box: dict[str, Box] = Field({})
    """per objective: its range in the hypervolume box, in its own unit"""
    search: SearchConfig = SearchConfig()
    run: ExecutionConfig = ExecutionConfig()
    _origins: Origins = PrivateAttr(default_factory=Origins)

    @property
    def origins(self) -> Origins:
        """Where each setting was written."""
        return self._origins

    def with_origins(self, origins: Origins) -> Self:
        """The same settings with other origins."""
        other = self.model_copy()
        other._origins = origins
        return other

    def sized(self, device: str) -> Self:
        """The same settings with a population, see `SearchConfig.sized`."""
        return self.model_copy(update={"search": self.search.sized(device)})

    @property
    def problem_name(self) -> str:
        """Short name of the problem, e.g. in names of run directories.

        Example:
            >>> RunConfig(problem="/home/me/my shop.py:small").problem_name
            'my-shop-small'
        """
        file, _, function = self.problem.partition(":")
        text = "-".join(filter(None, (Path(file).stem, function))) if file.endswith(".py") else self.problem
        return re.sub(r"[^\w.-]+", "-", text)

    @property
    def k(self) -> int:
        """Length of the lists that metrics with ``@k`` measure; 0 without lists."""
        return 0

    @property
    def code(self) -> tuple[str, ...]:
        """Files and modules that results depend on: the plugins, and the problem if it is a file."""
        file = self.problem.partition(":")[0]
        return (*self.plugins, *([file] if file.endswith(".py") else []))

    def facts(self) -> dict[str, str]:
        """The settings in words, as reports show them."""
        search = self.search
        memory = search.memory if isinstance(search.memory, str) else ", ".join(search.memory)
        surrogate = "no surrogate" if search.surrogate == "none" else f"surrogate {search.surrogate}, memory {memory}"
        if search.population:
            size = f"{search.population}, {search.most_evaluations} genomes at most"
        else:
            size = f"a size that suits the device, {search.evaluations or 'any number of'} genomes at most"
        how = f"{surrogate}, seed {search.seed}"
        if search.mode == "steady":
            how += ", steady state"
        if search.start:
            how += f", {len(search.start)} given genomes first"
        return {
            "constraints": "; ".join(self.constraints) or "none",
            "genes set by hand": ", ".join(self.space) or "none",
            "search": f"{search.algorithm}, {search.generations} generations of {size}, {how}",
        }

    def result_settings(self) -> dict[str, Any]:
        """The settings that can change a result of the search, as plain JSON, without those that only end it.

        Files enter by their content: the same file in another folder is the same setting.
        """
        settings = self.model_dump(mode="json", exclude=self.NOT_RESULTS) | {"problem": self.problem_name}
        del settings["plugins"]
        without = BUDGET if self.search.surrogate != "none" else (*BUDGET, "surrogate", "memory")
        for name in without:  # a search without a surrogate is named as before surrogates existed
            del settings["search"][name]
        if self.code:
            settings["code"] = {Path(name).name: code_sha256(name) for name in self.code}
        return settings

    def fingerprint(self, data_sha256: str, *, with_generations: bool = False) -> str:
        """Name of the run: a hash of all settings that can change a result, and of the data.

        Args:
            data_sha256: hash of the data (`evorec.problem.Problem.data_sha256`).
            with_generations: as runs of earlier versions were named.
        Returns:
            12 hexadecimal digits.
        """
        settings = self.result_settings()
        if with_generations:
            settings["search"]["generations"] = self.search.generations
        text = json.dumps({"config": settings, "data": data_sha256}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
