"""The interface of experiment trackers, and their registry.

A tracker observes a run: it changes nothing, and its failure or silence never stops a command
(`evorec.tracking.observers`). A tracker in a file of your own registers a class:

    from evorec.tracking.tracker import Tracker, TrackerOptions, register_tracker

    class PrinterOptions(TrackerOptions):
        prefix: str = ""
        '''what each line begins with'''

    @register_tracker("printer", options=PrinterOptions)
    class Printer(Tracker):
        def begin(self, run, identifier):
            return identifier or "1"

        def generation(self, step, metrics):
            print(self.options.prefix, step, metrics)

A configuration then says ``run.trackers = ["printer"]`` and ``run.tracking.printer = {prefix = ">"}``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, final

from pydantic import BaseModel, ConfigDict, ValidationError

from evorec.config import ExecutionConfig
from evorec.config.faults import Faults
from evorec.errors import ConfigError
from evorec.registry import Registry

CHALLENGER, CHAMPION = "challenger", "champion"
"""Aliases of a registered model: exported, and promoted."""


class TrackerOptions(BaseModel):
    """Base of a tracker's own settings, the table ``run.tracking.NAME``; this base has none."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@final
@dataclass(frozen=True)
class TrackedRun:
    """What a tracker may know of a run.

    Attributes:
        path: of the run directory.
        name: of the run, its folder or the name that a person gave it.
        problem: short name of the problem.
        params: every setting, dotted, as JSON.
        tags: fingerprint, versions and device.
    """

    path: Path
    name: str
    problem: str
    params: Mapping[str, str]
    tags: Mapping[str, str]


@final
@dataclass(frozen=True)
class TrackedModel:
    """A bundle that was exported or promoted.

    Attributes:
        folder: of the bundle.
        version: SHA-256 of its manifest, which names every file by its hash.
        alias: `CHALLENGER` or `CHAMPION`.
        member: key of the member or ensemble in it; empty if the bundle does not say.
        metrics: of its manifest.
    """

    folder: Path
    version: str
    alias: str
    member: str
    metrics: Mapping[str, float]


class Tracker(abc.ABC):
    """Observes a run. All methods are called by a single thread, `begin` first and `end` last.

    Attributes:
        options: validated settings.
        needs: the distribution that it imports, for the message when it is missing.
    """

    needs: ClassVar[str] = ""

    def __init__(self, options: Any) -> None:
        self.options = options

    @abc.abstractmethod
    def begin(self, run: TrackedRun, identifier: str | None) -> str:
        """Begin to track a run, or go on.

        Args:
            run: the run.
            identifier: that this method returned for the run before; None for the first time.
        Returns:
            Identifier of the tracked run.
        """

    @abc.abstractmethod
    def generation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Figures after a generation of the search.

        Args:
            step: the generation, from 1; never twice in the same tracked run.
            metrics: ``hypervolume``, ``evaluations``, ``failures``, ``dropped``, ``members``, and ``best/NAME`` for
                every objective, in its own unit.
        """

    def artifact(self, file: Path) -> None:  # noqa: B027
        """A file about the run, e.g. its front or its report; it is gone afterwards."""

    def model(self, model: TrackedModel) -> None:  # noqa: B027
        """A bundle was exported or promoted."""

    def end(self, status: str) -> None:  # noqa: B027
        """The command ends: ``finished``, ``interrupted`` or ``failed``; the run may go on later."""


@final
@dataclass(frozen=True)
class TrackerKind:
    """A registered tracker."""

    make: Callable[[Any], Tracker]
    options: type[TrackerOptions]
    needs: str


TRACKERS: Registry[TrackerKind] = Registry("tracker", package="evorec.tracking.trackers", group="evorec.trackers")
T = TypeVar("T", bound=type[Tracker])


def register_tracker(name: str, *, options: type[TrackerOptions] = TrackerOptions) -> Callable[[T], T]:
    """Register a class of trackers under a name of ``run.trackers``."""

    def register(kind: T) -> T:
        TRACKERS.register(name, TrackerKind(kind, options, kind.needs))
        return kind

    return register


def tracker_options(config: ExecutionConfig) -> dict[str, TrackerOptions]:
    """The validated settings of every tracker of a configuration, by its name.

    Raises:
        ConfigError: lists every unknown tracker and every wrong setting.
    """
    faults, found = Faults(), dict[str, TrackerOptions]()
    for name in dict.fromkeys(config.trackers):
        with faults.collect("run.trackers: "):
            kind = TRACKERS[name]
            try:
                found[name] = kind.options(**config.tracking.get(name, {}))
            except ValidationError as error:
                known = ", ".join(kind.options.model_fields) or "none"
                lines = [
                    f"run.tracking.{'.'.join((name, *map(str, fault['loc'])))}: {fault['msg']}, got {fault['input']!r}"
                    for fault in error.errors(include_url=False)
                ]
                raise ConfigError(f"{'; '.join(lines)}; the settings of {name} are: {known}.") from None
    for name in config.tracking.keys() - {*config.trackers}:
        with faults.collect():
            raise ConfigError(f"run.tracking.{name}: run.trackers does not name {name}; add it, or delete the table.")
    faults.refuse()
    return found
