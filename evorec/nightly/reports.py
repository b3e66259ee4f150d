"""What a night tells other programs: JUnit XML, a textfile for Prometheus, and a webhook."""

from __future__ import annotations

import http.client
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.etree import ElementTree

from evorec.nightly.checks import Check, Outcome

NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold."""
Labels = tuple[tuple[str, str], ...]
VERDICTS: Final = ("PROMOTE", "HOLD", "REJECT", "ERRORED")


def junit_xml(checks: Sequence[Check], *, name: str, timestamp: str, seconds: float) -> bytes:
    """The checks of a night as JUnit XML, as CI servers read it: a test case each, a warning as its output.

    Args:
        checks: of the data, the gate, the bundle and expected figures.
        name: of the suite.
        timestamp: of the start, ISO 8601.
        seconds: of the night.
    """
    n = {outcome: sum(check.outcome is outcome for check in checks) for outcome in Outcome}
    counts = {
        "tests": len(checks), "failures": n[Outcome.FAIL], "errors": n[Outcome.ERROR], "skipped": n[Outcome.SKIP],
    }  # fmt: skip
    facts = {"name": name, **{key: str(value) for key, value in counts.items()}, "time": f"{seconds:.3f}"}
    suites = ElementTree.Element("testsuites", facts)
    suite = ElementTree.SubElement(suites, "testsuite", {**facts, "timestamp": timestamp})
    for check in checks:
        group, _, own = check.name.partition(".")
        case = ElementTree.SubElement(suite, "testcase", {"classname": f"evorec.nightly.{group}", "name": _xml(own)})
        if check.outcome in (Outcome.FAIL, Outcome.ERROR):
            tag = "failure" if check.outcome is Outcome.FAIL else "error"
            ElementTree.SubElement(case, tag, {"message": _xml(check.text)})
        elif check.outcome is Outcome.SKIP:
            ElementTree.SubElement(case, "skipped", {"message": _xml(check.text)})
        else:
            output = ElementTree.SubElement(case, "system-out")
            output.text = _xml(f"WARNING: {check.text}" if check.outcome is Outcome.WARN else check.text)
    ElementTree.indent(suites)
    return bytes(ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _xml(text: str) -> str:
    return NOT_XML.sub("�", text)


def prometheus_text(summary: Mapping[str, Any], *, job: str, started: float, succeeded: float | None) -> str:
    """Gauges of the last night, for the textfile collector of the node exporter.

    Args:
        summary: of the night.
        job: value of the label ``job``, so that several jobs of a machine can be told apart.
        started: when the last night began, seconds since 1970.
        succeeded: when a night last ended with exit code 0; ``None`` = never.
    """
    lines: list[str] = []

    def gauge(name: str, text: str, rows: Mapping[Labels, float | None]) -> None:
        known = {labels: value for labels, value in rows.items() if value is not None}
        if known:
            lines.append(f"# HELP evorec_nightly_{name} {text}")
            lines.append(f"# TYPE evorec_nightly_{name} gauge")
        for labels, value in known.items():
            given = ",".join(f'{key}="{_label(label)}"' for key, label in (("job", job), *labels))
            lines.append(f"evorec_nightly_{name}{{{given}}} {float(value)!r}")

    search, decision = summary.get("search") or {}, summary.get("decision") or {}
    gauge("last_start_timestamp_seconds", "Begin of the last night.", {(): started})
    gauge("last_success_timestamp_seconds", "End of the last night with exit code 0.", {(): succeeded})
    gauge("exit_code", "Exit code of the last night; -1 while it runs.", {(): summary.get("exit_code", -1)})
    steps: dict[Labels, float | None] = {(("step", name),): s for name, s in summary.get("seconds", {}).items()}
    gauge("step_seconds", "Time of each step.", steps)
    if "verdict" in decision:
        own: dict[Labels, float | None] = {
            (("verdict", name),): float(decision["verdict"] == name) for name in VERDICTS
        }
        gauge("verdict", "1 for the verdict of the last night.", own)
    checks = summary.get("checks", ())
    counts: dict[Labels, float | None] = {
        (("outcome", o.value),): float(sum(c["outcome"] == o for c in checks)) for o in Outcome
    }
    gauge("checks", "Checks by outcome.", counts)
    for name in ("evaluations", "failed", "members", "hypervolume_share"):
        gauge(f"search_{name}", f"Search: {name.replace('_', ' ')}.", {(): search.get(name)})
    rows: dict[Labels, float | None] = {
        (("model", model), ("metric", row["name"])): row[model]
        for row in decision.get("comparisons", ())
        for model in ("champion", "challenger")
    }
    gauge("metric", "Figures of both models on the same test rows; higher is better.", rows)
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def post(url: str, summary: Mapping[str, Any], *, timeout_s: float) -> str:
    """Send a summary to a webhook.

    Args:
        url: http or https; it may hold a secret, so it is in no message.
        summary: plain JSON; ``text`` of the body says it in a sentence, as chat services expect.
        timeout_s: after which it is given up, also if the server sends a byte now and then.
    Returns:
        Why it failed, in words; empty if it was sent.
    """
    if not url.lower().startswith(("http://", "https://")):
        return "its URL must begin with http:// or https://"
    body = json.dumps({"text": summary.get("text", ""), "summary": summary}).encode()
    outcome = [f"no answer within {timeout_s:g} s"]

    def send() -> None:
        try:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
            with urllib.request.urlopen(request, timeout=timeout_s):
                outcome[0] = ""
        except urllib.error.HTTPError as error:
            outcome[0] = f"HTTP status {error.code}"
        except (OSError, ValueError, http.client.HTTPException) as error:  # their texts may hold the URL
            outcome[0] = type(getattr(error, "reason", error)).__name__

    thread = threading.Thread(target=send, name="evorec webhook", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return outcome[0]
