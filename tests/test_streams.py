"""Standard output and error whose reader is gone, whose disk is full, or that are closed never stop the work."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
from evorec.streams import keep_streams, lost_output
keep_streams()
for _ in range(20_000):
    print("a line → of the result")
    print("a line → of progress", file=sys.stderr)
lost = lost_output()
with open("work", "w") as file:
    file.write(f"done, {file.fileno() > 2}, {lost and lost.strerror}")
"""


@pytest.mark.parametrize(
    ("redirection", "lost"),
    [
        ("| head -1 >first", None),
        (">&-", None),
        ("2>&-", None),
        ("<&- >&- 2>&-", None),
        (">/dev/full", "No space left on device"),
        ("2>/dev/full", None),
        (">/dev/full 2>/dev/full", "No space left on device"),
    ],
)
def test_the_work_goes_on_without_readers(redirection: str, lost: str | None, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(SCRIPT, encoding="utf-8")
    command = f"PYTHONPATH={':'.join(sys.path)} PYTHONIOENCODING=ascii {sys.executable} work.py {redirection}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-300:]
    assert (tmp_path / "work").read_text() == f"done, True, {lost}"
    assert set(done.stderr.splitlines()) <= {r"a line \u2192 of progress"}
    if "head" in redirection:
        assert (tmp_path / "first").read_text() == "a line \\u2192 of the result\n"
