"""Nights of half a second: the data are read once, and a bundle is exported once and sealed anew for every night."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import exported
from feed_run import config

from evorec.deploy.bundle.export import seal
from evorec.nightly import job
from evorec.recommender.problem import build_problem

SMALL = {
    "training": {"steps": 2},
    "search": {"population": 4, "generations": 1},
    "finalize": {"steps": "search"},
    "nightly": {"carried": 0, "latency_ms": 0},
}
DAY = datetime(2026, 12, 1, 2, tzinfo=UTC)


def settings(root: Path, **nightly):
    base = {name: dict(value) for name, value in SMALL.items()}
    base["nightly"] |= {"folder": str(root), **nightly}
    return config(**base)


@cache
def problem():
    return build_problem(settings(Path("unused")))


def quick(monkeypatch, base: Path) -> list[str]:
    """Make nights quick; the result counts the expensive steps that are done."""
    done: list[str] = []
    template = exported.finalized(base)[0].bundle

    def export(run, problem, member, out, *, progress):
        done.append("export")
        shutil.copytree(template, out)
        manifest = json.loads((out / "manifest.json").read_text())
        seal(out, {**manifest, "words": [run.path.parts[-3]]})  # the name of the night
        return out

    def counted(name, function):
        def call(*args, **kwargs):
            done.append(name)
            return function(*args, **kwargs)

        return call

    from evorec.search import engine

    monkeypatch.setattr(job, "load_problem", lambda config: problem().with_seed(config.search.seed))
    monkeypatch.setattr(job, "export_bundle", export)
    monkeypatch.setattr(engine, "search", counted("search", engine.search))
    monkeypatch.setattr(job, "finalize", counted("finalize", job.finalize))
    return done


def night(root: Path, day: int = 0, *, notes: list[str] | None = None, expected=None, webhook="", stop=None, **nightly):
    hooks = job.Hooks(
        note=(notes if notes is not None else []).append,
        clock=lambda: DAY + timedelta(days=day),
        stop=stop or (lambda: False),
    )
    return job.run_night(settings(root, **nightly), hooks=hooks, expected=expected or {}, webhook=webhook)
