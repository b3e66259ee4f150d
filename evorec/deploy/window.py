"""Bundles on the same held-out rows: the figures that the gate compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from evorec.deploy.gate import Decision, Figure, SeedNoise, Verdict, decide, decide_first
from evorec.deploy.runs import check_belongs
from evorec.errors import ConfigError, RunError, command
from evorec.metrics.lists import NO_ITEM
from evorec.metrics.metric import Measurements
from evorec.objectives import find_metric
from evorec.recommender.encoding import EncodedData, encode_data
from evorec.recommender.problem import RecProblem
from evorec.serving.queries import ListOptions, User

if TYPE_CHECKING:
    from evorec.run.directory import RunDirectory
    from evorec.serving.recommender import Recommender


def against(
    champion: Recommender | None,
    challenger: Recommender,
    run: RunDirectory,
    problem: RecProblem,
    *,
    target: str,
    guards: Sequence[str] = (),
    noise: Mapping[str, SeedNoise] = MappingProxyType({}),
    refusals: Sequence[str] = (),
) -> Decision:
    """The verdict on a bundle, by the test part of a run that was finalized.

    Neither bundle may have been trained on the test: `evorec export --on all-data` makes a bundle that was.

    Args:
        champion: the bundle that is served; ``None`` = none is yet, and the challenger must beat the baselines.
        challenger: the new bundle.
        run: gives the rows, the noise between seeds, and the baselines.
        problem: the problem it searched.
        target: metric that must improve, such as ``recall@20``.
        guards: metrics that must not fall.
        noise: between seeds, by metric; of the others that of the run's own final trainings.
        refusals: see `decide`.
    Raises:
        RunError: the run was not finalized, or belongs to other data or settings than the problem.
        ConfigError: a metric has no value per user.
    """
    check_belongs(run, problem)
    report = run.read_final()
    if report is None:
        raise RunError(f"run {run.path} was not finalized: its test is not open; {command('finalize', run.path)} first")
    data = encode_data(problem.tables, problem.config, fit=problem.config.finalize.fit, seed=problem.seed, at_most=None)
    if champion is None:
        # Those of the report have the settings that validation chose; those of `data` would have the defaults.
        own = {name: _sign(name) * value for name, value in list_metrics(challenger, data).values.items()}
        baselines = {
            name: {target: _sign(target) * one[target]} for name, one in report["baselines"].items() if target in one
        }
        first = decide_first(own, baselines, target)
        return replace(first, verdict=Verdict.REJECT, reasons=(*refusals, *first.reasons)) if refusals else first
    measured = [list_metrics(bundle, data) for bundle in (champion, challenger)]
    names = (target, *guards)
    if missing := [name for name in names if name not in measured[0].per_user]:
        known = ", ".join(sorted(measured[0].per_user))
        raise ConfigError(f"{missing[0]} has no value per user that could be compared; there are {known}.")
    spread = {**seed_noise(report, names), **noise}
    figures = [_figure(name, measured[0], measured[1], spread[name]) for name in names]
    return decide(figures[:1], figures[1:], seed=problem.seed, refusals=refusals)


def seed_noise(report: Mapping[str, Any], names: Sequence[str]) -> dict[str, SeedNoise]:
    """The spread of metrics between the seeds of a final training, pooled over its members.

    Args:
        report: of `finalize`.
        names: of the metrics; one that the test does not have has no noise.
    """
    members = {entry["member"]: entry["test"] for entry in report["picks"]}.values()
    freedom = len(report["seeds"]) - 1
    return {
        name: SeedNoise.pooled(SeedNoise(one[name]["sd"], freedom) for one in members if name in one) for name in names
    }


def list_metrics(bundle: Recommender, data: EncodedData) -> Measurements:
    """Metrics of the lists of a bundle for the held-out users of a data set, which may have other items.

    Args:
        bundle: asked by external ids; items that a user must not get are excluded.
        data: with the users and their held-out positives.
    """
    dataset, users, ids = data.dataset, data.users, data.dataset.item_ids.tolist()
    asked = [
        User(user, exclude=[ids[item] for item in users.masked.row(row) if bundle.has_item(ids[item])])
        for row, user in enumerate(dataset.user_ids[users.ids].tolist())
    ]
    k = data.config.evaluation.k
    found = bundle.index_lists(asked, ListOptions(k=k)).items
    index = {item: position for position, item in enumerate(ids)}
    # Items that this data set does not have are no hits; the last entry is that of an empty place.
    place = np.array([*(index.get(item, NO_ITEM) for item in bundle.catalogue.ids.ids), NO_ITEM], dtype=np.int64)
    lists = np.full((len(asked), k), NO_ITEM, dtype=np.int64)
    lists[:, : found.shape[1]] = place[found]
    return data.held_out.measure_lists(lists)


def _figure(name: str, champion: Measurements, challenger: Measurements, noise: SeedNoise) -> Figure:
    """A figure with higher values as better."""
    sign = _sign(name)
    return Figure(name, sign * champion.per_user[name], sign * challenger.per_user[name], noise)


def _sign(name: str) -> float:
    return -1.0 if find_metric(name).direction == "min" else 1.0
