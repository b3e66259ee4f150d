from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def collections(monkeypatch):
    """Calls of the garbage collector after out-of-memory errors; in a large test process each takes a second."""
    calls = []
    monkeypatch.setattr("evorec.search.evaluator.gc", SimpleNamespace(collect=lambda: calls.append(1)))
    return calls
