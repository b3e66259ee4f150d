"""The templates of schedulers: what reads them accepts them, and their scripts pass on signals and exit codes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments/nightly"
COMMAND = "evorec nightly nightly.toml --time-budget 3h"
FAKE = """#!/bin/bash
trap 'exit 75' TERM USR1
touch started
for _ in {1..600}; do [ -e "$GO" ] && exit "$CODE"; sleep 0.05; done
"""
"""In place of evorec: ends with 75 after a signal, and with $CODE once the file $GO is there."""


def test_every_template_is_in_the_guide() -> None:
    guide = (FOLDER.parents[1] / "docs/scheduling.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\(\.\./experiments/nightly/([\w.-]+)\)", guide))
    assert linked == {path.name for path in FOLDER.iterdir() if path.is_file()}


def test_lines_of_cron_have_a_time_and_a_command() -> None:
    lines = [line for line in (FOLDER / "crontab").read_text().splitlines() if line and not re.match(r"#|\w+=", line)]
    assert len(lines) == 2
    for line in lines:
        assert re.match(r"\d{1,2} \d{1,2} \* \* \* cd \S+ && ", line)
        assert COMMAND in line
        assert "%" not in line  # a new line to cron


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_its_units(tmp_path: Path) -> None:
    for name in ("evorec-nightly.service", "evorec-nightly.timer"):
        text = (FOLDER / name).read_text().replace("/srv/recommender/.venv/bin/evorec", "/bin/true")  # must exist
        (tmp_path / name).write_text(text)
    units = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def script_of(name: str) -> str:
    """The script that starts evorec."""
    text = (FOLDER / name).read_text()
    if name.endswith(".slurm"):
        return text
    yaml = pytest.importorskip("yaml")
    spec = yaml.safe_load(text)["spec"]
    job = spec["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # a policy of failures needs it
    assert [rule["action"] for rule in job["podFailurePolicy"]["rules"]] == ["Ignore", "FailJob"]
    assert job["podFailurePolicy"]["rules"][1]["onExitCodes"]["containerName"] == container["name"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in job["template"]["spec"]["volumes"]}
    assert container["command"] == ["/bin/bash", "-c"]
    (script,) = container["args"]
    return script


@pytest.mark.parametrize(
    ("name", "code", "sent"),
    [
        *((name, code, 0) for name in ("nightly.slurm", "cronjob.yaml") for code in (0, 3, 99)),
        ("nightly.slurm", 75, signal.SIGUSR1),
        ("nightly.slurm", 75, signal.SIGTERM),
        ("cronjob.yaml", 75, signal.SIGTERM),
    ],
)
def test_scripts_pass_on_signals_and_exit_codes(name: str, code: int, sent: int, tmp_path: Path) -> None:
    for program, text in {"evorec": FAKE, "scontrol": '#!/bin/bash\necho "$*"\n'}.items():
        (tmp_path / program).write_text(text)
        (tmp_path / program).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "CODE": str(code), "GO": str(tmp_path / "go"), "SLURM_JOB_ID": "17"}
    process = subprocess.Popen(
        ["/bin/bash", "-c", script_of(name)], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(sent) if sent else (tmp_path / "go").touch()
    out, _ = process.communicate(timeout=60)
    requeues = name == "nightly.slurm" and code == 75
    assert process.returncode == (0 if code == 99 or requeues else code)
    assert out == ("requeue 17\n" if requeues else "")


@pytest.mark.parametrize("name", ["airflow_dag.py", "dagster_job.py", "prefect_flow.py"])
def test_files_of_orchestrators_are_python_and_start_the_command(name: str) -> None:
    text = (FOLDER / name).read_text()
    compile(text, name, "exec")
    assert COMMAND in text or '("evorec", "nightly", "nightly.toml", "--time-budget", "3h")' in text
