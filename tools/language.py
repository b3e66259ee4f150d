"""How plain is the English of the docstrings and messages? Rates per 1,000 words, beside scikit-learn and pymoo.

The style guide asks for the terms of the field and short sentences. This script counts the words and constructions
that it asks to avoid, in docstrings and in string literals of three words or more (messages, help texts). It prints
the same rates for installed packages, so that a rate can be compared with prose that users of this field read.

    python tools/language.py                       # evorec, problems, scikit-learn, pymoo
    python tools/language.py evorec/search         # any folder or file
    python tools/language.py --show what evorec   # the sentences behind a rate
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

PATTERNS = {
    "one/ones": re.compile(r"\bones?\b", re.I),
    "what": re.compile(r"\bwhat(?:ever)?\b(?![^.]*\?)", re.I),
    "place/stand": re.compile(r"\b(?:places?(?! holder)|stands?|stood|standing)\b", re.I),
    "idioms": re.compile(
        r"\b(?:walk(?:s|ed|ing)?|climb(?:s|ed|ing)?|spoilt|dearest|bulges?|nobody|everybody|company|hair|alike|beside|"
        r"asked|told|is no [a-z]+|are no [a-z]+)\b",
        re.I,
    ),
}
"""Name of a rate -> the words that it counts; a question may ask "what"."""
PARTICIPLE = re.compile(r"^_*(?:[A-Z][a-z]+)*?(?:[A-Z][a-z]*(?:ed|ought|uilt|ept|own|ade|een)|Alike|Asked)$")
"""Class names that say what happened to something instead of naming a thing."""
NOUNS = frozenset({"Embed", "Seed", "Speed", "Feed", "Need", "Bed", "Shed", "Breed", "Fixed", "Trade"})
"""Class names that only look like participles; ``Fixed`` is the name of a gene and part of the public interface."""

ROOT = Path(__file__).resolve().parents[1]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings and literals of three words or more, with their line; f-strings without their values."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        text = None
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            text = node.value
        if text is not None and len(text.split()) > 2:
            yield node.lineno, text


def files(target: Path) -> list[Path]:
    """Python files of a package without its tests."""
    if target.is_file():
        return [target]
    return [path for path in sorted(target.rglob("*.py")) if not {"tests", "externals"} & set(path.parts)]


def prose(text: str) -> str:
    """The text without examples and code, which are not English."""
    text = re.sub(r"(?m)^\s*(?:>>>|\.\.\.).*$", " ", text)
    return re.sub(r"``[^`]*``|`[^`]*`", "X", text)


def rates(targets: list[Path]) -> dict[str, float]:
    """Words, rates per 1,000 of them, and the number of classes named by a participle."""
    words, found, participles = 0, dict.fromkeys(PATTERNS, 0), 0
    for path in (path for target in targets for path in files(target)):
        for _, text in texts(path):
            plain = prose(text)
            words += len(re.findall(r"[A-Za-z]+", plain))
            for name, pattern in PATTERNS.items():
                found[name] += len(pattern.findall(plain))
        participles += sum(
            bool(PARTICIPLE.match(node.name)) and node.name.lstrip("_") not in NOUNS
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ClassDef)
        )
    return {"words": words, **{k: 1000 * n / max(words, 1) for k, n in found.items()}, "participles": participles}


def show(name: str, targets: list[Path]) -> None:
    """Print each occurrence of a rate with the words around it, or each class named by a participle."""
    for path in (path for target in targets for path in files(target)):
        if name == "participles":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and PARTICIPLE.match(node.name) and node.name.strip("_") not in NOUNS:
                    print(f"{path}:{node.lineno}: {node.name}")
            continue
        for line, text in texts(path):
            plain = " ".join(prose(text).split())
            for hit in PATTERNS[name].finditer(plain):
                print(f"{path}:{line}: ...{plain[max(hit.start() - 40, 0) : hit.end() + 30]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", type=Path, help="folders or files; default: evorec and problems")
    parser.add_argument("--show", choices=[*PATTERNS, "participles"], help="print the occurrences instead of rates")
    options = parser.parse_args()
    ours = options.targets or [ROOT / "evorec", ROOT / "problems"]
    if options.show:
        show(options.show, ours)
        return
    rows = {"ours": rates(ours)}
    for package in ("sklearn", "pymoo"):
        spec = importlib.util.find_spec(package)
        if spec and spec.submodule_search_locations:
            rows[package] = rates([Path(spec.submodule_search_locations[0])])
    names = list(rows["ours"])
    print(f"{'':14s}" + "".join(f"{name:>14s}" for name in names))
    for package, values in rows.items():
        print(
            f"{package:14s}"
            + "".join(f"{values[name]:14,.{0 if name in ('words', 'participles') else 2}f}" for name in names)
        )


if __name__ == "__main__":
    main()
