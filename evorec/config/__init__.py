"""The run configuration: a field is at once the default, the TOML key and the help of the command line.

`RunConfig` has the settings of any search, `RecommenderConfig` those of a search for recommenders; a problem of another
kind has a class of its own. `load_config` merges, weakest first: field defaults, the problem's own defaults, the TOML
file, ``--set`` overrides. Every section is frozen and refuses unknown keys; all errors are listed together, each with
its key.
"""

from evorec.config.content import (
    CONTENT_KINDS,
    COOCCURRENCE,
    ContentConfig,
    CooccurrenceContent,
    EncoderContent,
    GraphContent,
    TextContent,
    VectorsContent,
)
from evorec.config.data import DataConfig
from evorec.config.ensemble import EnsembleConfig
from evorec.config.evaluation import AttackConfig, EvaluationConfig
from evorec.config.execution import ExecutionConfig
from evorec.config.faults import Faults
from evorec.config.finalize import FinalizeConfig
from evorec.config.fuse import FuseConfig
from evorec.config.listing import Key, keys
from evorec.config.loading import load_config, merge, parse_config, reset_config, stored_config
from evorec.config.nightly import GuardConfig, NightlyConfig
from evorec.config.origins import Layer, Origins
from evorec.config.problems import ProblemDefinition, installed_problems, problem_definition
from evorec.config.recommender import RecommenderConfig, recommender_config
from evorec.config.rows import RowsConfig
from evorec.config.run import RunConfig
from evorec.config.search import SearchConfig
from evorec.config.section import Overlay, Section
from evorec.config.simulator import SIMULATORS, SimulatedConfig, Simulator, SimulatorConfig, simulator_config
from evorec.config.space import Bounds, Box, GeneOverride
from evorec.config.split import SplitConfig
from evorec.config.tables import EntityConfig, FilesConfig, ItemsConfig, LogConfig, PivotConfig, UsersConfig
from evorec.config.tasks import QuantileKind, TaskKind, TasksConfig, kind_name, task_in_words
from evorec.config.training import BudgetConfig, TrainConfig

__all__ = [
    "CONTENT_KINDS", "COOCCURRENCE", "SIMULATORS", "AttackConfig", "Bounds", "Box", "BudgetConfig", "ContentConfig",
    "CooccurrenceContent", "DataConfig", "EncoderContent", "EnsembleConfig", "EntityConfig", "EvaluationConfig",
    "ExecutionConfig", "Faults", "FilesConfig", "FinalizeConfig", "FuseConfig", "GeneOverride", "GraphContent",
    "GuardConfig", "ItemsConfig", "Key", "Layer", "LogConfig", "NightlyConfig", "Origins", "Overlay", "PivotConfig",
    "ProblemDefinition", "QuantileKind", "RecommenderConfig", "RowsConfig", "RunConfig", "SearchConfig", "Section",
    "SimulatedConfig", "Simulator", "SimulatorConfig", "SplitConfig", "TaskKind", "TasksConfig", "TextContent",
    "TrainConfig",
    "UsersConfig", "VectorsContent", "installed_problems", "keys", "kind_name", "load_config", "merge",
    "parse_config", "problem_definition", "recommender_config", "reset_config", "simulator_config", "stored_config",
    "task_in_words",
]  # fmt: skip
