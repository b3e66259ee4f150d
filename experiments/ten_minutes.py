"""From a clone to a served model: the steps of docs/own-data.md on the files of a log, with the seconds of each.

Everything is new: a clone, a virtual environment, a configuration that `evorec init` guesses, a short search, its test
figures, a bundle, and a server that answers a request. It needs Python, git and the files only.

    python experiments/ten_minutes.py shop                               # a folder with the files of a log
    python experiments/ten_minutes.py shop --set search.generations=8    # a longer search
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from results_file import write_results

ROOT = Path(__file__).resolve().parents[1]
SHORT = ("search.population=12", "search.generations=3", "training.steps=100")
"""A first search; the defaults are 24 x 8 trainings of 200 steps."""


def main() -> None:
    """Follow the guide and print a table of steps and seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", help="files of the log, or their folder")
    parser.add_argument("--repository", default=str(ROOT), help="that is cloned")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="KEY=VALUE of the search")
    parser.add_argument("--out", type=Path, default=ROOT / "experiments/results/ten_minutes.json")
    arguments = parser.parse_args()
    files = [str(path.resolve()) for path in arguments.files]
    settings = [word for text in (*SHORT, *arguments.settings) for word in ("--set", text)]
    with tempfile.TemporaryDirectory() as folder:
        seconds = follow(Path(folder), files, arguments.repository, settings)
    width = max(map(len, seconds))
    for name, value in [*seconds.items(), ("all", sum(seconds.values()))]:
        print(f"{name:<{width}} {value:7.1f} s")
    write_results(arguments.out, {"settings": settings[1::2], "seconds": seconds, "all_s": sum(seconds.values())})


def follow(work: Path, files: list[str], repository: str, settings: list[str]) -> dict[str, float]:
    """The seconds of each step.

    Args:
        work: empty folder.
        files: of the log.
        repository: that is cloned.
        settings: of the search, as words of the command line.
    """
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        start = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - start

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    python, evorec = f"{work}/venv/bin/python", f"{work}/venv/bin/evorec"
    with step("git clone"):
        run("git", "clone", "-q", repository, "evorec")
    with step("python -m venv"):
        run(sys.executable, "-m", "venv", "venv")
    with step("pip install"):
        run(python, "-m", "pip", "install", "-q", "-c", "evorec/constraints.txt", "-e", "./evorec[export,serve]")
    with step("evorec init"):
        run(evorec, "init", *files, "--out", "my.toml")
    with step("evorec data describe"):
        run(evorec, "data", "describe", "my.toml")
    with step("evorec validate"):
        run(evorec, "validate", "my.toml")
    with step("evorec search"):
        found = run(evorec, "search", "my.toml", "--format", "json", *settings)
    where = json.loads(found)["run"]
    with step("evorec finalize"):
        run(evorec, "finalize", where, "--pick", "knee")
    with step("evorec export"):
        run(evorec, "export", where, "knee", "--out", "bundle")
    with step("evorec serve, until its first answer"):
        server = subprocess.Popen(
            [evorec, "serve", "bundle", "--port", "0"], cwd=work, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        body = json.dumps({"users": [{}], "k": 5}).encode()
        asked = urllib.request.Request(f"{url}/recommend", body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked) as answer:
            (listed,) = json.load(answer)["lists"]
    server.terminate()
    server.wait()
    assert len(listed["items"]) == 5, listed
    return seconds


if __name__ == "__main__":
    main()
