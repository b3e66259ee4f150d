from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evorec import plugins
from evorec.training.reproducible import reproducible_cpu

reproducible_cpu()  # before any test multiplies

sys.path.append(str(Path(__file__).resolve().parents[1] / "experiments"))  # the reference models


@pytest.fixture(autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a test makes stays in the user's own cache."""
    monkeypatch.setenv("EVOREC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _plugins_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes of other tests do not load the plugins of this test, whose files are gone by then."""
    monkeypatch.setattr(plugins, "_loaded", dict(plugins._loaded))
