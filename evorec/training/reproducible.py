"""Results on a CPU that are the same bit for bit, on any number of cores and with any other members in a stack."""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path

import torch

from evorec.errors import ConfigError

_logger = logging.getLogger(__name__)
_OFF = 1  # MKL_CBWR_BRANCH_OFF in mkl_types.h: the answer without a mode; MKL_CBWR_OFF is 0


def reproducible_cpu(*, required: bool = True) -> None:
    """Make PyTorch reproducible on this CPU, for the whole process; call it before anything is multiplied.

    PyTorch gets a single thread per operation: parallelism is over stacks, and a sum must not be split by the number of
    cores. MKL gets its reproducible mode (environment variable ``MKL_CBWR``, unless it is set already): without it the
    rounding of a product may depend on the address of a matrix (measured on AMD EPYC), which depends on the other
    members of a stack; the mode costs nothing measurable. MKL reads the variable once, at its first product.

    Args:
        required: raise if it is too late; False logs a warning.
    Raises:
        ConfigError: MKL has been used in another mode.
    Example:
        >>> import evorec
        >>> evorec.reproducible_cpu()  # doctest: +SKIP
    """
    os.environ.setdefault("MKL_CBWR", "AUTO")
    torch.set_num_threads(1)
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    mode = None  # PyTorch has no public name for it; without the symbol, e.g. on ARM, there is no MKL to check
    if torch.backends.mkl.is_available() and library.is_file():  # type: ignore[no-untyped-call]
        mode = getattr(ctypes.CDLL(str(library)), "mkl_serv_cbwr_get", None)
    if mode is not None and mode(1) == _OFF:  # asks for MKL_CBWR_BRANCH
        message = (
            "MKL is not in its reproducible mode: it was used before reproducible_cpu() was called, or MKL_CBWR is "
            "OFF; call evorec.reproducible_cpu() first, or start the process with MKL_CBWR=AUTO."
        )
        if required:
            raise ConfigError(message)
        _logger.warning(message)
