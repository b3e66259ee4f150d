"""Files under results/: compact JSON that people can read and compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LINE = 140
DIGITS = 6


def write_results(path: Path, value: Any) -> None:
    """Write figures as JSON with six digits; values that fit on a line are not split."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_text(_rounded(value), "") + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _text(value: Any, indent: str) -> str:
    line = json.dumps(value)
    if len(indent) + len(line) <= LINE or not isinstance(value, dict | list):
        return line
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}: {_text(part, inner)}" for name, part in value.items()]
    else:
        parts = [_text(part, inner) for part in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{closing}"
