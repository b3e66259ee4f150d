"""The documentation site: built without a warning, complete, and without anything from another host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import evorec
from evorec.cli.app import COMMANDS
from evorec.config import keys

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `mkdocs build --strict` makes it; a page or a link that is missing is an error."""
    pytest.importorskip("mkdocstrings", reason="mkdocs is not installed: pip install -c constraints.txt -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_reference_has_every_public_name_command_and_key(site: Path) -> None:
    pages = {path.parent.name: path.read_text(encoding="utf-8") for path in site.glob("reference/*/index.html")}
    headings = " ".join(pages.values())
    assert not [name for name in evorec.__all__ if name != "__version__" and f'id="evorec.{name}"' not in headings]
    assert not [name for name in COMMANDS if f'<h2 id="{name.replace(" ", "-")}">' not in pages["commands"]]
    ends = {key.name.rpartition(".")[2].replace("<", "&lt;").replace(">", "&gt;") for key in keys()}
    assert not [end for end in ends if f"<code>{end}</code>" not in pages["configuration"]]


def test_the_site_loads_nothing_from_another_host(site: Path) -> None:
    loads = re.compile(
        r"<(?:script|img|iframe)[^>]*\ssrc=\"?https?:|<link[^>]*rel=\"?(?:stylesheet|preload)[^>]*https?:"
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert not [page for page in pages if loads.search(page.read_text(encoding="utf-8"))]
    own = (site / "assets" / "site.css").read_text(encoding="utf-8")
    assert "http" not in own


def test_the_search_of_the_site_finds_guides_and_names(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert all(text in index for text in ("extending/#a-metric", "evorec.as_pymoo", "training.inherit"))
