"""A recommender with answers worked by hand, in place of a bundle: what is tested beside it is the serving."""

import json
import math
import sys
import threading
import time
import types
from pathlib import Path

from evorec.errors import DataError, RunError
from evorec.serving.queries import Item
from evorec.serving.recommender import Recommender

N_ITEMS = 40
KNOWN_USERS = range(10)
LATE_S = 600.0
"""Far more than a test needs until it opens the gate of a request."""


class StandIn:
    """Lists items from `first` on, each with a score of `first` minus its place, so that versions can be told apart."""

    tasks = ("click", "like")
    shown = types.MappingProxyType({"title": [f"title {item}" for item in range(N_ITEMS)]})
    k = 5
    n_users = len(KNOWN_USERS)
    user_ids = KNOWN_USERS
    n_items = N_ITEMS

    def __init__(self, version="v0", *, first=0, seconds=0.0, scores=None):
        self.version = version
        self.manifest = {
            "problem": "made up", "member": f"member-{version}", "tasks": list(self.tasks), "k": self.k,
            "metrics": {"validation": {"recall@5": 0.25, "auc": math.nan}}, "versions": {"evorec": "0"},
        }  # fmt: skip
        self.asked = []
        self.gate = threading.Event()
        self.gate.set()
        self.threads = set()
        self._first = first
        self._seconds = seconds
        self._scores = scores

    trial = Recommender.trial

    def knows(self, user):
        return user in KNOWN_USERS

    def show(self, items, names):
        if wrong := set(names) - {"title"}:
            raise DataError(f"the bundle holds no column {wrong.pop()!r}")
        return [dict.fromkeys(names, f"title {item}") for item in items]

    def unknown(self, users, options):
        ids = {what: [id_ for user in users for id_ in getattr(user, what)] for what in ("liked", "exclude")}
        ids["only"] = options.only or []
        missing = {what: [id_ for id_ in own if not self.has_item(id_)] for what, own in ids.items()}
        return {what: own for what, own in missing.items() if own}

    def has_item(self, item):
        return item in range(N_ITEMS)

    def recommend(self, users, *, k=None, seen=False, where=None, only=None, mmr=None):
        self.asked.append({"users": users, "k": k, "seen": seen, "where": where, "only": only, "mmr": mmr})
        self.threads.add(threading.current_thread().name)
        time.sleep(self._seconds)
        assert self.gate.wait(LATE_S)
        if where and "genre" not in where:
            raise DataError(f"no item feature is called {next(iter(where))!r}; there is genre.")
        items = [item for item in range(self._first, self._first + N_ITEMS) if only is None or item in only]
        return [[(i, self._score(self._first - i)) for i in items if i not in u.exclude][: k or self.k] for u in users]

    def score(self, user, items):
        out = []
        for item in items:
            known = item.id if isinstance(item, Item) else item
            if not self.has_item(known) and not (isinstance(item, Item) and item.features):
                raise DataError(f"item {known!r} is new; give its features.")
            out.append({"click": 0.5, "like": 0.25, "score": self._score(1.0)})
        return out

    def _score(self, value):
        return value if self._scores is None else self._scores


def load_stand_in(path):
    """A stand-in from a folder that `write_stand_in` made; ``{"damaged": true}`` is a bundle that is damaged."""
    found = json.loads((Path(path) / "manifest.json").read_text())
    if found.pop("damaged", False):
        raise RunError(f"bundle {path} is damaged; export it again")
    return StandIn(**found)


def write_stand_in(path, **values):
    """A folder that `load_stand_in` reads."""
    path.mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps(values))
    return path


def stand_in_module():
    """What the command takes for `evorec.serving.recommender`."""
    module = types.ModuleType("evorec.serving.recommender")
    module.load_bundle = load_stand_in
    return module


if __name__ == "__main__":
    sys.modules["evorec.serving.recommender"] = stand_in_module()

    from evorec.cli import main

    sys.exit(main())
