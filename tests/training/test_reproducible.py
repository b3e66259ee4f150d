"""The reproducible mode of the CPU, in processes of their own: MKL reads it once."""

import os
import subprocess
import sys

import pytest
import torch

PRODUCT = "torch.ones(64, 64) @ torch.ones(64, 64)"
CALL = "import evorec; evorec.reproducible_cpu(); print(os.environ['MKL_CBWR'], torch.get_num_threads())"
needs_mkl = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="PyTorch multiplies without MKL here")


def run(*lines: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2", **variables}
    code = "; ".join(["import os, torch", *lines])
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def test_importing_evorec_and_its_problems_changes_nothing_in_the_process() -> None:
    names = "evorec.recommender.problem, evorec.deploy.final.finalize, problems.feed"
    done = run(f"import {names}; print(os.environ.get('MKL_CBWR'), torch.get_num_threads())")
    assert done.stdout == "None 2\n", done.stderr


@needs_mkl
def test_the_reproducible_mode_is_set_before_the_first_product_or_refused() -> None:
    assert run(CALL, PRODUCT).stdout == "AUTO 1\n"
    assert run(PRODUCT, CALL, MKL_CBWR="COMPATIBLE").stdout == "COMPATIBLE 1\n", "another mode is kept"
    late = run(PRODUCT, CALL)
    assert late.returncode != 0
    assert "MKL is not in its reproducible mode: it was used before" in late.stderr
