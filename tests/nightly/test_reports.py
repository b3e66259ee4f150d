"""Other programs can read what a night writes, and no server can hold it up."""

import http.server
import json
import threading
import time
from contextlib import contextmanager, suppress
from xml.etree import ElementTree

import pytest
from prometheus_client.parser import text_string_to_metric_families

from evorec.errors import ConfigError
from evorec.nightly.checks import Check, Outcome
from evorec.nightly.expected import Expected, check_expected, read_expected
from evorec.nightly.reports import junit_xml, post, prometheus_text

CHECKS = [
    Check("data.rows", Outcome.PASS, "as before"),
    Check("data.drift", Outcome.WARN, "users.seg\x00ment & <b>"),
    Check("gate.recall@5", Outcome.FAIL, 'loss: "0.1"'),
    Check("gate.audit", Outcome.ERROR, "unreadable"),
    Check("bundle.latency", Outcome.SKIP, "no limit"),
]


def test_junit_has_a_case_for_each_check():
    suite = ElementTree.fromstring(junit_xml(CHECKS, name="nightly ü", timestamp="2026-12-01", seconds=2)).find(
        "testsuite"
    )
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["5", "1", "1", "1"]
    cases = {f"{case.get('classname')}.{case.get('name')}": case for case in suite}
    assert cases["evorec.nightly.gate.recall@5"].find("failure").get("message") == 'loss: "0.1"'
    assert cases["evorec.nightly.data.drift"].find("system-out").text == "WARNING: users.seg�ment & <b>"
    assert cases["evorec.nightly.gate.audit"].find("error") is not None


def test_prometheus_reads_the_gauges():
    decision = {"verdict": "HOLD", "comparisons": [{"name": "recall@5", "champion": 0.1, "challenger": 0.2}]}
    summary = {"exit_code": 0, "seconds": {"search": 1.5}, "decision": decision, "search": {"members": 3}}
    text = prometheus_text(summary, job='a "job"\n', started=1e9, succeeded=None)
    found = {
        (
            sample.name.removeprefix("evorec_nightly_"),
            *sorted(set(sample.labels.values()) - {'a "job"\n'}),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["exit_code",] == 0
    assert found["last_start_timestamp_seconds",] == 1e9
    assert ("last_success_timestamp_seconds",) not in found
    assert (found["verdict", "HOLD"], found["verdict", "PROMOTE"]) == (1, 0)
    assert found["metric", "challenger", "recall@5"] == 0.2
    assert found["step_seconds", "search"] == 1.5


@contextmanager
def server(answer):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            answer(self)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/hook?token=secret"
        running.shutdown()


def test_a_webhook_gets_the_summary_and_its_failures_are_named_without_the_url():
    bodies = []

    def take(request):
        bodies.append(json.loads(request.rfile.read(int(request.headers["Content-Length"]))))
        request.send_response(200)
        request.end_headers()

    def refuse(request):
        request.send_error(500)

    def drip(request):  # a byte now and then keeps every timeout of a socket from ending
        with suppress(OSError):  # the other side has gone
            for _ in range(100):
                request.wfile.write(b"H")
                time.sleep(0.05)

    with server(take) as url:
        assert post(url, {"text": "PROMOTE", "night": "x"}, timeout_s=5) == ""
        assert bodies == [{"text": "PROMOTE", "summary": {"text": "PROMOTE", "night": "x"}}]
    with server(refuse) as url:
        assert post(url, {}, timeout_s=5) == "HTTP status 500"
    with server(drip) as url:
        start = time.monotonic()
        assert post(url, {}, timeout_s=0.3) == "no answer within 0.3 s"
        assert time.monotonic() - start < 3
    for url in ("http://127.0.0.1:9/secret", "http://secret name/", "http://x:secret/", "http://[secret"):
        failure = post(url, {}, timeout_s=1)
        assert failure
        assert "secret" not in failure
    assert "http://" in post("file:///etc/passwd", {}, timeout_s=1)


def test_expected_figures_are_compared_with_their_tolerance(tmp_path):
    file = tmp_path / "expected.json"
    file.write_text('{"recall@5": {"value": 0.2, "tolerance": 0.02}, "auc/click": {"value": 1, "tolerance": 0}}')
    expected = read_expected(file)
    assert expected == {"recall@5": Expected(0.2, 0.02), "auc/click": Expected(1.0, 0.0)}
    found = check_expected(expected, {"recall@5": 0.219})
    assert [check.outcome for check in found] == [Outcome.PASS, Outcome.FAIL]
    assert found[1].text == "the challenger has no auc/click; it has recall@5"
    assert check_expected(expected, {"recall@5": 0.221, "auc/click": 1.0})[0].outcome is Outcome.FAIL


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"a": 1}', '{"a": {"value": 1}}', '{"a": {"value": true, "tolerance": 1}}',
     '{"a": {"value": NaN, "tolerance": 1}}', '{"a": {"value": 1, "tolerance": -1}}'],
)  # fmt: skip
def test_a_file_of_another_form_is_refused_with_an_example(text, tmp_path):
    file = tmp_path / "expected.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"--expect .*expected.json(.|\n)*recall@20"):
        read_expected(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_expected(tmp_path / "missing.json")
