"""Hooks of mkdocs for the documentation site: pages and lists that are written elsewhere in the repository.

* README.md, CONTRIBUTING.md, CHANGELOG.md and experiments/README.md are pages of the site. A link to any other file of
  the repository leads to a copy of that file, so every link works in the repository and on the site.
* ``<!-- names: MODULE ... -->`` becomes the documentation of the public names of these modules; ``*`` = of all modules
  that no other page names.
* ``<!-- commands -->`` and ``<!-- keys -->`` become the commands with their options and the configuration keys.
* ``<!-- file: NAME -->`` before a block becomes its title.
* A page of docs/ that the navigation of mkdocs.yml does not have is listed under "More".
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "experiments/README.md": "experiments.md",
}
"""File of the repository -> page of the site."""
NAMES = re.compile(r"<!-- names: (.+) -->")
LINK = re.compile(r"(!?\[([^\]]*)\])\((?!https?:|mailto:|#)([^)#\s]+)((?:#[^)\s]*)?)\)")
TITLE = re.compile(r"<!-- file: (\S+) -->\n```(\w+)\n")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of docs/, and copies of the files to which pages link."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for page in list(files.documentation_pages()):
        folder = posixpath.dirname(_source(page.src_uri))
        for _, _, target, _ in LINK.findall(page.content_string):
            linked = posixpath.normpath(posixpath.join(folder, target))
            copy = f"files/{linked}"
            if _page(linked) is None and (ROOT / linked).is_file() and copy not in files.src_uris:
                files.append(File.generated(config, copy, abs_src_path=str(ROOT / linked)))
    listed = json.dumps(config.nav)
    pages = [page.src_uri for page in files.documentation_pages() if not page.src_uri.startswith("files/")]
    if config.nav is not None and (more := [page for page in pages if f'"{page}"' not in listed]):
        config.nav.append({"More": more})
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links between files of the repository as links between pages; a file's name is the title of its block."""
    here = page.file.src_uri
    rewrite = partial(_link, folder=posixpath.dirname(_source(here)), start=posixpath.dirname(here))
    markdown = TITLE.sub(r'```\2 title="\1"\n', LINK.sub(rewrite, markdown))
    if found := NAMES.search(markdown):
        markdown = markdown.replace(found[0], "\n".join(f"::: evorec.{name}\n" for name in _names(found[1].split())))
    if "<!-- keys -->" in markdown:
        markdown = markdown.replace("<!-- keys -->", "\n".join(_keys()))
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", "\n".join(_commands()))
    return markdown


def _source(page: str) -> str:
    """The file of the repository that a page is made from."""
    return next((source for source, name in PAGES.items() if name == page), f"docs/{page}")


def _page(source: str) -> str | None:
    """The page that a file of the repository becomes; ``None`` if it is no page."""
    return PAGES.get(source, source.removeprefix("docs/") if source.startswith("docs/") else None)


def _link(found: re.Match[str], *, folder: str, start: str) -> str:
    linked = posixpath.normpath(posixpath.join(folder, found[3]))
    if (ROOT / linked).is_dir():
        return found[2]  # the site has no folders
    return f"{found[1]}({posixpath.relpath(_page(linked) or f'files/{linked}', start or '.')}{found[4]})"


def _names(modules: list[str]) -> list[str]:
    """Public names that are defined in these modules or packages, in the order of evorec/__init__.pyi."""
    listed = (ROOT / "evorec/__init__.pyi").read_text(encoding="utf-8")
    origins = {name: module for module, name in re.findall(r"^from (\S+) import \w+ as (\w+)$", listed, re.MULTILINE)}
    if modules == ["*"]:
        pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")]
        others = [module for page in pages for found in NAMES.findall(page) for module in found.split()]
        written = {name for page in pages for name in re.findall(r"^::: evorec\.(\w+)$", page, re.MULTILINE)}
        return [name for name, origin in origins.items() if not _is_in(origin, others) and name not in written]
    return [name for name, origin in origins.items() if _is_in(origin, modules)]


def _is_in(module: str, packages: list[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def _keys() -> Iterator[str]:
    """A table per section of the configuration."""
    from evorec.config import keys

    sections = defaultdict(list)
    for key in keys():
        section, _, name = key.name.rpartition(".")
        sections[section].append(f"| `{name}` | {_cell(key.meaning)} | {_cell(key.expects)} | {_code(key.default)} |")
    for section, rows in sections.items():
        heading = f"## [{section}]" if section else "## Top level"
        yield "\n".join(
            [heading.replace("<", "&lt;"), "", "| key | meaning | values | default |", "|---|---|---|---|", *rows, ""]
        )


def _commands() -> Iterator[str]:
    """Every command with its help, arguments and options."""
    import typer

    from evorec.cli.app import COMMANDS, application

    root: Any = typer.main.get_command(application())
    shared = {"--help", "--format", "--quiet", "--verbose", "--debug"}
    for name in [name for name, _ in sorted(COMMANDS.items(), key=lambda item: item[1].rank)]:
        command = root
        for word in name.split():
            command = command.commands[word]
        context = command.make_context(name, [], resilient_parsing=True)
        usage = " ".join([f"evorec {name}", *command.collect_usage_pieces(context)])
        yield f"## {name}\n\n{command.help}\n\n```text\n{usage}\n```\n"
        if examples := COMMANDS[name].examples:
            yield "\n".join(["```console", *(f"$ {line}" for line in examples), "```", ""])
        rows = []
        for given in command.params:
            if not shared & {*given.opts}:
                written = " ".join(filter(None, [", ".join([*given.opts, *given.secondary_opts]), given.metavar]))
                rows.append(f"| {_code(written)} | {_cell(given.help or '')} |")
        yield "\n".join(["| argument or option | meaning |", "|---|---|", *rows, ""])


def _cell(text: str) -> str:
    """A text inside a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""
