"""Section ``[nightly]``: the job that searches, judges and promotes without a person (`evorec nightly`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from evorec.config.section import Section

Severity = Literal["error", "warn", "off"]
"""error = the night ends before anything is trained, with exit code 3; warn = the reports say so; off = not checked."""


class GuardConfig(Section):
    """Checks of the data before anything is trained. "Before" is the last night that was completed."""

    columns: Severity = "error"
    """columns of the log and of the tables of users and items, and their types, are those of before"""
    rows: Severity = "error"
    """number of rows: at least fewest_rows, and within most_change of before"""
    ids: Severity = "error"
    """users and items: their numbers within most_change of before; no negative ids, and none beyond ten times the
    largest, if there were none before"""
    labels: Severity = "error"
    """labels of the test part: none is constant, rates and shares of known values within label_change of before"""
    drift: Severity = "warn"
    """features: population stability index against before, beyond what chance gives, at most most_drift"""
    fewest_rows: int = Field(1, ge=1)
    """rows of the log"""
    most_change: float = Field(2.0, gt=1)
    """largest factor by which a number may grow or fall"""
    label_change: float = Field(0.5, gt=0)
    """largest relative change of the rate of a label, e.g. 0.5 = from 10 % to between 5 % and 15 %"""
    most_drift: float = Field(0.25, gt=0)
    """population stability index of a feature; 0.1 is usually called a small and 0.25 a large change"""


class NightlyConfig(Section):
    """The nightly job."""

    folder: str = "nightly"
    """folder of the nights, their lock and the reports of the last night; relative to the working directory"""
    models: str = ""
    """folder of the champion, the challenger and their log, as of evorec promote; empty = models in nightly.folder"""
    minutes: float = Field(0.0, ge=0)
    """time of a night, all its starts together, also --time-budget; 0 = no limit"""
    reserve_minutes: float = Field(0.0, ge=0)
    """part of the time that the search leaves to the final training, export and gate; 0 = half more than they took last
    time, and at least a quarter of nightly.minutes"""
    pick: str = "knee"
    """member that becomes the challenger, as for evorec finalize; finalize.picks are measured as well"""
    target: str = "recall@k"
    """metric of lists that must improve on the test; @k = evaluation.k"""
    guards: tuple[str, ...] = ("ndcg@k",)
    """metrics of lists that must not fall, e.g. intra_list_distance@k"""
    latency_ms: float = Field(250.0, ge=0)
    """milliseconds within which the challenger must answer 95 % of requests for a single user; 0 = no limit"""
    carried: int = Field(4, ge=0, le=1000)
    """genomes that the search begins with: the champion's, then those of the last night's front; the surrogate also
    starts from the rows of all kept nights (search.memory)"""
    keep: int = Field(14, ge=1)
    """nights that are kept, the last of all; nights whose bundle is kept are kept, too"""
    keep_promoted: int = Field(0, ge=0)
    """champions whose bundles are kept, at least 2 so that a rollback is possible; 0 = all"""
    prometheus: str = ""
    """file for the textfile collector of Prometheus, e.g. /var/lib/node_exporter/evorec.prom; empty = evorec.prom in
    nightly.folder"""
    webhook: str = "EVOREC_WEBHOOK"
    """environment variable with a URL that gets the summary by POST; the configuration never holds the URL itself"""
    webhook_s: float = Field(10.0, gt=0, le=300)
    """seconds until the webhook is given up"""
    guard: GuardConfig = GuardConfig()
