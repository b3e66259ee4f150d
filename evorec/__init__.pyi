"""Public names of evorec, for type checkers; `__init__.py` reads this file and imports a name at its first use."""

from evorec.archive.pareto import ParetoArchive as ParetoArchive
from evorec.config import RecommenderConfig as RecommenderConfig
from evorec.config import RunConfig as RunConfig
from evorec.config import load_config as load_config
from evorec.deploy.bundle.export import ExportOptions as ExportOptions
from evorec.deploy.bundle.export import export_bundle as export_bundle
from evorec.deploy.final.finalize import finalize as finalize
from evorec.errors import ConfigError as ConfigError
from evorec.errors import DataError as DataError
from evorec.errors import EvorecError as EvorecError
from evorec.errors import ExpectationError as ExpectationError
from evorec.errors import Interruption as Interruption
from evorec.errors import NothingNewError as NothingNewError
from evorec.errors import RunError as RunError
from evorec.errors import RunLockedError as RunLockedError
from evorec.errors import SearchError as SearchError
from evorec.errors import TrainingError as TrainingError
from evorec.objectives import Constraint as Constraint
from evorec.objectives import Objective as Objective
from evorec.problem import Outcome as Outcome
from evorec.problem import Problem as Problem
from evorec.problem import load_problem as load_problem
from evorec.recommender.problem import RecProblem as RecProblem
from evorec.recommender.problem import build_problem as build_problem
from evorec.report.search_run import SearchRun as SearchRun
from evorec.report.search_run import load_run as load_run
from evorec.run.directory import RunDirectory as RunDirectory
from evorec.search.confirm import confirm as confirm
from evorec.search.deap_toolbox import as_deap as as_deap
from evorec.search.engine import search as run_search
from evorec.search.optuna_study import as_optuna as as_optuna
from evorec.search.pymoo_problem import as_pymoo as as_pymoo
from evorec.serving.queries import Item as Item
from evorec.serving.queries import User as User
from evorec.serving.recommender import Recommender as Recommender
from evorec.serving.recommender import load_bundle as load_bundle
from evorec.serving.rows import RowScorer as RowScorer
from evorec.serving.rows import load_rows as load_rows
from evorec.space.genes import Boolean as Boolean
from evorec.space.genes import Categorical as Categorical
from evorec.space.genes import Fixed as Fixed
from evorec.space.genes import Gene as Gene
from evorec.space.genes import Integer as Integer
from evorec.space.genes import Real as Real
from evorec.space.genes import Simplex as Simplex
from evorec.space.genes import When as When
from evorec.space.space import SearchSpace as SearchSpace
from evorec.training.reproducible import reproducible_cpu as reproducible_cpu

__all__ = ["run_search"]  # a type stub exports an import under another name only in this way
__version__: str
