"""Evolve multi-task recommender configurations into a Pareto archive of deployable models.

Every public name is imported from here and loaded at its first use: ``import evorec`` alone loads neither torch nor
pymoo.

Example:
    >>> import evorec
    >>> evorec.Integer("width", 16, 128, scale="log2", default=32).cardinality
    4.0
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from evorec.archive.pareto import ParetoArchive
    from evorec.config import RecommenderConfig, RunConfig, load_config
    from evorec.deploy.bundle.export import ExportOptions, export_bundle
    from evorec.deploy.final.finalize import finalize
    from evorec.errors import (
        ConfigError,
        DataError,
        EvorecError,
        Interrupted,
        RunError,
        RunLockedError,
        SearchError,
        TrainingError,
    )
    from evorec.objectives import Constraint, Objective
    from evorec.problem import Outcome, Problem, load_problem
    from evorec.recommender.problem import RecProblem, build_problem
    from evorec.run.directory import RunDirectory
    from evorec.search.deap_toolbox import as_deap
    from evorec.search.engine import search as run_search
    from evorec.search.pymoo_problem import as_pymoo
    from evorec.serving.queries import Item, User
    from evorec.serving.recommender import Recommender, load_bundle
    from evorec.space.genes import Boolean, Categorical, Fixed, Gene, Integer, Real, Simplex, When
    from evorec.space.space import SearchSpace
    from evorec.training.reproducible import reproducible_cpu

    __version__: str
else:

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            value = version("evorec")
        elif name in _PLACES:
            module, _, attribute = _PLACES[name].partition(":")
            value = getattr(import_module(module), attribute or name)
        else:
            raise AttributeError(f"module 'evorec' has no attribute {name!r}")
        globals()[name] = value
        return value


__all__ = [
    "Boolean",
    "Categorical",
    "ConfigError",
    "Constraint",
    "DataError",
    "EvorecError",
    "ExportOptions",
    "Fixed",
    "Gene",
    "Integer",
    "Interrupted",
    "Item",
    "Objective",
    "Outcome",
    "ParetoArchive",
    "Problem",
    "Real",
    "RecProblem",
    "Recommender",
    "RecommenderConfig",
    "RunConfig",
    "RunDirectory",
    "RunError",
    "RunLockedError",
    "SearchError",
    "SearchSpace",
    "Simplex",
    "TrainingError",
    "User",
    "When",
    "__version__",
    "as_deap",
    "as_pymoo",
    "build_problem",
    "export_bundle",
    "finalize",
    "load_bundle",
    "load_config",
    "load_problem",
    "reproducible_cpu",
    "run_search",
]

_PLACES: Final = {
    **dict.fromkeys(("RecommenderConfig", "RunConfig", "load_config"), "evorec.config"),
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "evorec.errors"),
    **dict.fromkeys(("Constraint", "Objective"), "evorec.objectives"),
    **dict.fromkeys(("Outcome", "Problem", "load_problem"), "evorec.problem"),
    **dict.fromkeys(("RecProblem", "build_problem"), "evorec.recommender.problem"),
    **dict.fromkeys(
        ("Boolean", "Categorical", "Fixed", "Gene", "Integer", "Real", "Simplex", "When"), "evorec.space.genes"
    ),
    **dict.fromkeys(("ExportOptions", "export_bundle"), "evorec.deploy.bundle.export"),
    **dict.fromkeys(("Item", "User"), "evorec.serving.queries"),
    **dict.fromkeys(("Recommender", "load_bundle"), "evorec.serving.recommender"),
    "Interrupted": "evorec.errors",
    "ParetoArchive": "evorec.archive.pareto",
    "RunDirectory": "evorec.run.directory",
    "SearchSpace": "evorec.space.space",
    "as_deap": "evorec.search.deap_toolbox",
    "as_pymoo": "evorec.search.pymoo_problem",
    "finalize": "evorec.deploy.final.finalize",
    "reproducible_cpu": "evorec.training.reproducible",
    "run_search": "evorec.search.engine:search",  # the name `evorec.search` is the package's
}
"""Public name -> module, or module:name."""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
