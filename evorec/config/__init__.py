"""The run configuration: one field is the default, the TOML key and the command line's help at once.

`load_config` merges, weakest first: field defaults, the problem's own defaults, the TOML file, ``--set`` overrides.
Every section is frozen and refuses unknown keys; all errors are listed together, each with its key.
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
from evorec.config.evaluation import AttackConfig, EvaluationConfig
from evorec.config.fuse import FuseConfig
from evorec.config.listing import Key, keys
from evorec.config.loading import check_used, load_config, merge, parse_config, parse_override, read_toml
from evorec.config.section import Section
from evorec.config.sections import (
    Bounds,
    Box,
    DataConfig,
    ExecutionConfig,
    FinalizeConfig,
    GeneOverride,
    Overlay,
    QuantileKind,
    RunConfig,
    SearchConfig,
    SplitConfig,
    TaskKind,
    TasksConfig,
    TrainConfig,
    kind_name,
    task_in_words,
)
from evorec.config.simulator import SIMULATORS, Simulator, SimulatorConfig, simulator_config
from evorec.config.tables import EntityConfig, FilesConfig, ItemsConfig, LogConfig, PivotConfig, UsersConfig

__all__ = [
    "CONTENT_KINDS",
    "COOCCURRENCE",
    "SIMULATORS",
    "AttackConfig",
    "Bounds",
    "Box",
    "ContentConfig",
    "CooccurrenceContent",
    "DataConfig",
    "EncoderContent",
    "EntityConfig",
    "EvaluationConfig",
    "ExecutionConfig",
    "FilesConfig",
    "FinalizeConfig",
    "FuseConfig",
    "GeneOverride",
    "GraphContent",
    "ItemsConfig",
    "Key",
    "LogConfig",
    "Overlay",
    "PivotConfig",
    "QuantileKind",
    "RunConfig",
    "SearchConfig",
    "Section",
    "Simulator",
    "SimulatorConfig",
    "SplitConfig",
    "TaskKind",
    "TasksConfig",
    "TextContent",
    "TrainConfig",
    "UsersConfig",
    "VectorsContent",
    "check_used",
    "keys",
    "kind_name",
    "load_config",
    "merge",
    "parse_config",
    "parse_override",
    "read_toml",
    "simulator_config",
    "task_in_words",
]
