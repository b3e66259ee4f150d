"""The run configuration: one field is the default, the TOML key and the command line's help at once.

`load_config` merges, weakest first: field defaults, the problem's own defaults, the TOML file, ``--set`` overrides.
Every section is frozen and refuses unknown keys; all errors are listed together, each with its key.
"""

from evorec.config.listing import Key, keys
from evorec.config.loading import load_config, merge, parse_config, parse_override, read_toml
from evorec.config.sections import (
    Bounds,
    Box,
    DataConfig,
    EvaluationConfig,
    ExecutionConfig,
    FinalizeConfig,
    GeneOverride,
    Overlay,
    RunConfig,
    SearchConfig,
    Section,
    SimulatorConfig,
    SplitConfig,
    TasksConfig,
    TrainConfig,
)

__all__ = [
    "Bounds",
    "Box",
    "DataConfig",
    "EvaluationConfig",
    "ExecutionConfig",
    "FinalizeConfig",
    "GeneOverride",
    "Key",
    "Overlay",
    "RunConfig",
    "SearchConfig",
    "Section",
    "SimulatorConfig",
    "SplitConfig",
    "TasksConfig",
    "TrainConfig",
    "keys",
    "load_config",
    "merge",
    "parse_config",
    "parse_override",
    "read_toml",
]
