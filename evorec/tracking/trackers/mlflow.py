"""MLflow: a run per search, with its settings, figures, front and report; exported bundles as registered models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from evorec.tracking.tracker import TrackedModel, TrackedRun, Tracker, TrackerOptions, register_tracker

PARAM_LENGTH = 500
"""Characters of a parameter that every version of MLflow takes."""
PARAMS_AT_ONCE = 100
BUNDLE = "evorec.bundle"
"""Tag of a model version: the version of its bundle."""
STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflowOptions(TrackerOptions):
    """Settings of MLflow."""

    uri: str = ""
    """address of the tracking server or store, e.g. http://host:5000 or sqlite:///mlflow.db; empty =
    MLFLOW_TRACKING_URI, or MLflow's own default"""
    experiment: str = "evorec"
    """name of the experiment, which is made if there is none"""
    model: str = ""
    """name of the registered model; empty = evorec- and the name of the problem"""


@final
@register_tracker("mlflow", options=MLflowOptions)
class MLflow(Tracker):
    """A run of MLflow. The aliases ``challenger`` and ``champion`` name model versions that were exported, promoted."""

    needs = "mlflow-skinny"

    def begin(self, run: TrackedRun, identifier: str | None) -> str:
        from mlflow import MlflowClient
        from mlflow.entities import Param, RunTag
        from mlflow.exceptions import MlflowException

        self._client: Any = MlflowClient(tracking_uri=self.options.uri or None)
        self._model = self.options.model or f"evorec-{run.problem}"
        if identifier is not None:
            try:
                self._client.update_run(identifier, status="RUNNING")
            except MlflowException:  # the store has lost it, or is another
                identifier = None
        if identifier is None:
            found = self._client.get_experiment_by_name(self.options.experiment)
            experiment = found.experiment_id if found else self._client.create_experiment(self.options.experiment)
            identifier = str(self._client.create_run(experiment, run_name=run.name).info.run_id)
            params = [Param(name, value[:PARAM_LENGTH]) for name, value in run.params.items()]
            tags = [RunTag(f"evorec.{name}", value) for name, value in {**run.tags, "path": str(run.path)}.items()]
            for first in range(0, len(params), PARAMS_AT_ONCE):
                self._client.log_batch(identifier, params=params[first : first + PARAMS_AT_ONCE])
            self._client.log_batch(identifier, tags=tags)
        self._run = identifier
        return identifier

    def generation(self, step: int, metrics: Mapping[str, float]) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        found = [Metric(_name(name), value, now, step) for name, value in metrics.items()]
        self._client.log_batch(self._run, metrics=found)

    def artifact(self, file: Path) -> None:
        self._client.log_artifact(self._run, str(file))

    def model(self, model: TrackedModel) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_registered_model(self._model)
        except MlflowException:
            self._client.create_registered_model(self._model)
        versions = self._client.search_model_versions(f"name='{self._model}'")
        number = next((v.version for v in versions if v.tags.get(BUNDLE) == model.version), None)
        if number is None:
            place = f"bundles/{model.version[:16]}"
            self._client.log_artifacts(self._run, str(model.folder), place)
            source = f"{self._client.get_run(self._run).info.artifact_uri}/{place}"
            tags = {BUNDLE: model.version, "evorec.member": model.member}
            tags |= {f"metric.{_name(name)}": f"{value:.6g}" for name, value in model.metrics.items()}
            made = self._client.create_model_version(self._model, source, run_id=self._run, tags=tags)
            number = made.version
        self._client.set_registered_model_alias(self._model, model.alias, number)

    def end(self, status: str) -> None:
        self._client.set_terminated(self._run, STATUS[status])


def _name(metric: str) -> str:
    """The name of a metric in characters that MLflow takes.

    Example:
        >>> _name("best/recall@20")
        'best/recall_at_20'
    """
    return re.sub(r"[^\w\-. :/]", "_", metric.replace("@", "_at_"))
