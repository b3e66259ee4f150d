from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from evorec import plugins
from evorec.training.reproducible import reproducible_cpu

reproducible_cpu()  # before any test multiplies

sys.path.append(str(Path(__file__).resolve().parents[1] / "experiments"))  # the reference models

LONGEST = (
    "test_export", "test_every_problem", "test_end_to_end", "test_graphs", "test_extensions", "test_finalize",
    "test_bundle", "test_docs", "test_cli", "test_problem", "test_trainer", "test_bad_input", "test_recommender",
    "test_padding", "test_method_experiments", "test_executors", "test_cli_problems", "test_number_tasks",
    "test_serve_command", "test_resume", "test_objectives_on_demand", "test_explain", "test_reproducible",
    "test_page_in_browser", "test_job",
)  # fmt: skip
"""Files of at least ten seconds. They run first, else one process still has a long file when the others are done."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """The modules and thousands of tests stay to the end, so the garbage collector need not look at them again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture(autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a test makes stays in the user's own cache."""
    monkeypatch.setenv("EVOREC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _plugins_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes of other tests do not load the plugins of this test, whose files are gone by then."""
    monkeypatch.setattr(plugins, "_loaded", dict(plugins._loaded))
