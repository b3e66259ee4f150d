"""The run configuration: one field is the default, the TOML key and the command line's help at once.

`load_config` merges, weakest first: field defaults, the problem's own defaults, the TOML file, ``--set`` overrides.
Every section is frozen and refuses unknown keys; all errors are listed together, each with its key.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import reprlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from evorec.errors import ConfigError

Overlay = Mapping[str, Any]
"""A nested, partial configuration, e.g. ``{"training": {"steps": 100}}``."""


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, no infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _a_boolean_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("a boolean is no number")
        return value


class SimulatorConfig(Section):
    """The built-in simulator (`evorec.data.simulate`)."""

    n_users: int = Field(1500, ge=1, description="users")
    n_items: int = Field(800, ge=2, description="items of the catalogue")
    n_interactions: int = Field(60_000, ge=10, description="impressions in the log")
    n_categories: int = Field(12, ge=1, description="item categories")
    n_factors: int = Field(8, ge=2, description="latent taste dimensions")
    n_days: int = Field(14, ge=3, description="length of the log in days")
    zipf_exponent: float = Field(0.9, ge=0, le=3, description="popularity exponent; 0 = uniform")
    drift: float = Field(0.3, ge=0, le=1, description="share of taste and popularity that moves from first to last day")
    conflict_angle_deg: float = Field(
        45.0, ge=0, le=180, description="angle between the tasks' preference directions, in degrees; 0 = tasks agree"
    )
    seed: int = Field(0, ge=0, description="seed of the simulated world; the run's seed does not change the data")


class DataConfig(Section):
    """Where the interactions come from."""

    reader: str = Field("simulator", description="file format: simulator, movielens or kuairand")
    path: str | None = Field(
        None, description="folder to read; a relative path is looked up here, then under $EVOREC_DATA"
    )
    statistics: tuple[str, ...] = Field(
        ("user", "item"),
        description="histories whose counts and rates on earlier days enter the ranker, e.g. user, item, author_id, "
        "user+tab",
    )
    history_length: int = Field(
        30, ge=1, le=1000, description="latest target positives of a user that enter the retrieval vector"
    )
    history_recency: float = Field(
        0.0, ge=0, le=4, description="the j-th latest positive (from 0) weighs (1 + j) ** -recency; 0 = all alike"
    )
    simulator: SimulatorConfig = SimulatorConfig()


class SplitConfig(Section):
    """How rows are divided into train, validation and test."""

    kind: Literal["time", "leave_last_out", "random"] = Field(
        "time", description="time = global cut; leave_last_out = per user; random flatters every metric"
    )
    validation_from: date | None = Field(None, description="first day of validation, UTC (time split)")
    test_from: date | None = Field(None, description="first day of test, UTC (time split)")
    utc_offset_h: float = Field(0.0, ge=-14, le=14, description="hours to add to UTC before days are cut, in hours")
    validation_share: float = Field(0.1, gt=0, lt=0.5, description="share of rows when no day is given")
    test_share: float = Field(0.1, gt=0, lt=0.5, description="share of rows when no day is given")
    seed: int = Field(0, ge=0, description="seed of the random split")

    @model_validator(mode="after")
    def _days_in_order(self) -> SplitConfig:
        if (self.validation_from is None) != (self.test_from is None):
            raise ValueError("validation_from and test_from must be given together")
        if self.validation_from and self.test_from and self.validation_from >= self.test_from:
            raise ValueError(f"validation_from ({self.validation_from}) must be before test_from ({self.test_from})")
        return self


class TasksConfig(Section):
    """Which label columns are learned."""

    ranked: tuple[str, ...] = Field((), description="label columns that the ranker learns, one tower each")
    target: str = Field("", description="label column whose positives are retrieved and counted by recall")

    @model_validator(mode="after")
    def _no_repeats(self) -> TasksConfig:
        if len(set(self.ranked)) != len(self.ranked):
            raise ValueError(f"ranked lists a task twice: {list(self.ranked)}")
        return self


class TrainConfig(Section):
    """The search budget: what every candidate gets, and what stays the same for all of them."""

    steps: int = Field(200, ge=1, le=1_000_000, description="optimiser steps")
    batch_size: int = Field(1024, ge=2, le=65_536, description="impressions per step")
    retrieval_batch: int = Field(256, ge=2, le=8192, description="target positives per step, in-batch softmax")
    next_item: bool = Field(
        False,
        description="retrieval learns a positive from the positives before it (for held-out rows that come next; a "
        "repeated item counts each time), not from the user's whole past without it",
    )
    layers: int = Field(3, ge=1, le=8, description="layers L between the embeddings and the task heads")
    precision: Literal["float32", "float64"] = Field("float32", description="floating point type of the training")


def _candidates(value: Any) -> Any:
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("neither")


class EvaluationConfig(Section):
    """How a trained candidate is measured."""

    k: int = Field(20, ge=1, le=1000, description="length of a recommendation list")
    candidates: Annotated[int | Literal["all"], BeforeValidator(_candidates)] = Field(
        200, description="retrieved items that the ranker re-orders, or all"
    )
    max_users: int = Field(2000, ge=1, description="users sampled for ranking metrics during the search")
    users: Literal["all", "warm"] = Field(
        "all",
        description="users of ranking metrics: all with a training row, or warm = with a target positive in training",
    )
    mask: Literal["seen", "positives"] = Field(
        "seen", description="items never recommended: all that the user met in training, or only target positives"
    )

    def n_candidates(self, n_items: int) -> int:
        """Items that the ranker re-orders, of a catalogue of `n_items`."""
        return n_items if self.candidates == "all" else min(self.candidates, n_items)

    @model_validator(mode="after")
    def _candidates_hold_the_list(self) -> EvaluationConfig:
        if self.candidates != "all" and self.candidates < self.k:
            raise ValueError(f"candidates ({self.candidates}) must be at least k ({self.k})")
        return self


class Bounds(Section):
    """New bounds of a gene, in the gene's own unit."""

    low: float
    high: float

    @model_validator(mode="after")
    def _in_order(self) -> Bounds:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high}); give one value to fix the gene")
        return self


class Box(Section):
    """The two corners of an objective's axis in the hypervolume box."""

    ideal: float
    worst: float

    @model_validator(mode="after")
    def _not_flat(self) -> Box:
        if self.ideal == self.worst:
            raise ValueError(f"ideal and worst are both {self.ideal}")
        return self


def _override_kind(value: Any) -> str | None:
    if isinstance(value, Bounds | Mapping):
        return "bounds"
    if isinstance(value, list | tuple):
        return "weights"
    return type(value).__name__ if isinstance(value, bool | int | float | str) else None


GeneOverride = Annotated[
    Annotated[Bounds, Tag("bounds")]
    | Annotated[tuple[float, ...], Tag("weights")]
    | Annotated[bool, Tag("bool")]
    | Annotated[int, Tag("int")]
    | Annotated[float, Tag("float")]
    | Annotated[str, Tag("str")],
    Discriminator(_override_kind, custom_error_type="override", custom_error_message="no kind of override"),
]
"""One value fixes a gene (a list fixes task weights), ``{low, high}`` moves its bounds; a value's type is kept."""


class SearchConfig(Section):
    """The evolutionary search."""

    algorithm: Literal["nsga2"] = Field("nsga2", description="multi-objective algorithm")
    population: int = Field(24, ge=4, le=10_000, description="genomes per generation")
    generations: int = Field(8, ge=1, le=100_000, description="generations, the first one included")
    seed: int = Field(0, ge=0, description="seed of the run: initial genomes, operators, training streams")


class FinalizeConfig(Section):
    """How members are chosen and trained again before the test is opened."""

    picks: tuple[str, ...] = Field(
        (), description='validation picks: "METRIC" or "METRIC where METRIC >= NUMBER"; empty = best of each objective'
    )
    seeds: int = Field(3, ge=1, le=100, description="fresh seeds per pick; the first one is shipped")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the paired bootstrap over users")


class ExecutionConfig(Section):
    """Where and how the run executes; changes no result on a CPU and is not part of the fingerprint."""

    output: str = Field("runs", description="folder for run directories")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        examples=["auto", "cpu", "cuda", "cuda:1"],
        description="where the tensors live; auto = CUDA where there is one",
    )
    workers: int = Field(0, ge=0, le=1024, description="groups trained at once on a CPU; 0 = one per core")
    chunk: int = Field(8, ge=1, le=4096, description="most members in one tensor program")


class RunConfig(Section):
    """Everything a run needs."""

    problem: str = Field("feed", description="name of the problem definition (`evorec problems`)")
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    tasks: TasksConfig = TasksConfig()
    training: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    space: dict[str, GeneOverride] = Field({}, description="per gene: one value fixes it, {low, high} moves its bounds")
    objectives: tuple[str, ...] = Field(
        ("accuracy", "recall@k", "diversity", "cost"),
        min_length=1,
        description="metrics to optimise; @k = evaluation.k",
    )
    constraints: tuple[str, ...] = Field(
        ("recall@k >= 0.9 * popularity",), description='"METRIC >= NUMBER" or "METRIC >= NUMBER * BASELINE"'
    )
    box: dict[str, Box] = Field({}, description="per objective: corners of the hypervolume box")
    search: SearchConfig = SearchConfig()
    finalize: FinalizeConfig = FinalizeConfig()
    run: ExecutionConfig = ExecutionConfig()

    def result_settings(self) -> dict[str, Any]:
        """The settings that can change a result of the search, as plain JSON."""
        return self.model_dump(mode="json", exclude={"run": True, "finalize": True, "data": {"path"}})

    def fingerprint(self, data_sha256: str) -> str:
        """Name of the run: a hash of all settings that can change a result, and of the data.

        The data enter by their content: the same tables in another folder are the same run.

        Args:
            data_sha256: hash of the tables (`Tables.sha256`).
        Returns:
            12 hexadecimal digits.
        """
        settings = self.result_settings()
        text = json.dumps({"config": settings, "data": data_sha256}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def merge(weak: Overlay, strong: Overlay) -> dict[str, Any]:
    """Deep merge of two partial configurations; `strong` wins.

    Example:
        >>> merge({"training": {"steps": 1, "layers": 2}}, {"training": {"steps": 5}})
        {'training': {'steps': 5, 'layers': 2}}
    """
    out = dict(weak)
    for name, value in strong.items():
        old = out.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and name != "space"
        out[name] = merge(old, value) if both and isinstance(old, Mapping) else value
    if isinstance(weak.get("space"), Mapping) and isinstance(strong.get("space"), Mapping):
        out["space"] = {**weak["space"], **strong["space"]}  # a gene's override is replaced whole, never mixed
    return out


def parse_override(text: str) -> dict[str, Any]:
    """``training.steps=200`` as a nested overlay; the value is read as TOML, else as a plain string.

    Raises:
        ConfigError: there is no ``=`` or no key.
    Example:
        >>> parse_override("space.width={low=16, high=64}")
        {'space': {'width': {'low': 16, 'high': 64}}}
    """
    key, equals, raw = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"--set expects KEY=VALUE with a dotted key, got {text!r}; e.g. --set training.steps=200")
    try:
        value: Any = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a nested dictionary.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"config file {path} does not exist; `evorec problems` lists what runs without a file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config file {path} is not valid TOML: {error}") from None


def parse_config(overlay: Overlay, *, source: str = "config") -> RunConfig:
    """A checked, frozen configuration.

    Args:
        overlay: nested settings, partial.
        source: named in the message, e.g. the file.
    Raises:
        ConfigError: lists every unknown key and every bad value at once.
    """
    try:
        return RunConfig.model_validate(overlay)
    except ValidationError as error:
        lines = [_describe(problem, source) for problem in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from None


def load_config(
    path: Path | None = None,
    *,
    defaults: Overlay | None = None,
    overrides: Sequence[str] = (),
    source: str | None = None,
) -> RunConfig:
    """Configuration from, weakest first: field defaults, `defaults`, the TOML file, ``KEY=VALUE`` overrides."""
    overlay: Overlay = defaults or {}
    if path is not None:
        overlay = merge(overlay, read_toml(path))
    for text in overrides:
        overlay = merge(overlay, parse_override(text))
    return parse_config(overlay, source=source or (path.name if path else "command line"))


@dataclass(frozen=True)
class Key:
    """One setting, as the command line lists it.

    Attributes:
        name: dotted, as in ``--set``; ``<gene>`` stands for any name.
        default: as TOML writes it; empty when there is none.
        expects: type and range in words.
        meaning: what it does, with its unit.
    """

    name: str
    default: str
    expects: str
    meaning: str


def keys(config: RunConfig | None = None) -> tuple[Key, ...]:
    """Every setting of a configuration, in the order of its sections.

    Args:
        config: its values are listed as the defaults, e.g. a problem's own; None = the fields' defaults.
    Example:
        >>> next(key for key in keys() if key.name == "training.batch_size").expects
        'an integer in 2..65536'
    """
    return tuple(_keys_of(config or RunConfig(), ""))


def _keys_of(section: Section, prefix: str) -> Iterator[Key]:
    for name, field in type(section).model_fields.items():
        value, meaning = getattr(section, name), field.description or ""
        if isinstance(value, Section):
            yield from _keys_of(value, f"{prefix}{name}.")
        elif name == "space":
            yield Key("space.<gene>", "", "a value, a list of task weights or {low = NUMBER, high = NUMBER}", meaning)
        elif name == "box":
            yield Key("box.<objective>", "", "{ideal = NUMBER, worst = NUMBER}", meaning)
        else:
            yield Key(f"{prefix}{name}", _toml(value), _expects(field), meaning)


def _toml(value: Any) -> str:
    if value is None or isinstance(value, date):
        return str(value or "")
    return json.dumps(value)


def _expects(field: FieldInfo) -> str:
    """Type and range of a field in words, e.g. ``an integer in 2..65536``."""
    limits: dict[str, Any] = {}
    for item in field.metadata:
        limits.update(
            {name: getattr(item, name) for name in ("ge", "gt", "le", "lt", "min_length") if hasattr(item, name)}
        )
    kind = _kind(field.annotation)
    if field.examples:
        return f"{kind} such as {', '.join(field.examples)}"
    if "min_length" in limits:
        return f"{kind}, at least {limits['min_length']}"
    if {"gt", "lt"} <= set(limits):
        return f"{kind} between {limits['gt']} and {limits['lt']}, both excluded"
    if {"ge", "le"} <= set(limits):
        return f"{kind} in {limits['ge']}..{limits['le']}"
    return f"{kind} >= {limits['ge']}" if "ge" in limits else kind


_KINDS = {int: "an integer", float: "a number", str: "a text", bool: "true or false", date: "a date as 2024-01-31"}


def _kind(annotation: Any) -> str:
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_kind(part) for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return " or ".join(json.dumps(option) for option in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "a list of texts"
    return _KINDS.get(annotation, str(annotation))


def _describe(problem: Mapping[str, Any], source: str) -> str:
    """One sentence: the key, the file, what was expected, what was found."""
    loc = [str(part) for part in problem["loc"]]
    if loc[:1] == ["space"]:
        del loc[2:3]  # the kind of override, which pydantic adds
    name = ".".join(loc) or "the configuration"
    where = f"{name} ({source})"
    if problem["type"] == "extra_forbidden":
        return f"{where} is not a known key{_suggestion(name)} `evorec validate --keys` lists them all."
    if problem["type"] == "missing":
        return f"{where} is missing."
    got = reprlib.repr(problem["input"])
    expected = {key.name: key.expects for key in keys()}
    if name in expected:
        return f"{where} must be {expected[name]}, got {got}."
    if problem["type"] == "override":
        return f"{where} must be one value, a list of task weights or {{low, high}}, got {got}."
    if problem["type"] == "value_error":
        return f"{where}: {str(problem['msg']).removeprefix('Value error, ')}."
    if problem["type"] in ("model_type", "dict_type"):
        return f"{where} must be a table of settings, got {got}."
    if problem["type"].startswith(("float", "finite")):
        return f"{where} must be a finite number, got {got}."
    return f"{where}: {problem['msg']}, got {got}."


def _suggestion(name: str) -> str:
    known = [key.name for key in keys()]
    if "." not in name:  # a section, too, may be misspelt
        known += [key.partition(".")[0] for key in known]
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ";"
