"""The only place where child seeds are made.

A stream is keyed by (run seed, purpose, step, layer, ...): by what it is for, never by the genome, the slot or the
process that draws from it. So a member's result does not depend on who is trained beside it.
"""

from __future__ import annotations

import hashlib

import numpy as np


def child_seed(run_seed: int, purpose: str, *key: int) -> int:
    """Seed of one named stream.

    Args:
        run_seed: the seed of the run, >= 0.
        purpose: what the stream is for, e.g. ``"dropout"``.
        key: further integers that name the stream, e.g. step and layer.
    Returns:
        An integer in ``[0, 2**63)``; equal arguments give equal seeds on every machine.
    Example:
        >>> child_seed(0, "init", 1) == child_seed(0, "init", 1)
        True
        >>> child_seed(0, "init", 1) == child_seed(0, "init", 2)
        False
    """
    text = ":".join([str(int(run_seed)), purpose, *(str(int(k)) for k in key)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(run_seed: int, purpose: str, *key: int) -> np.random.Generator:
    """NumPy generator of one named stream (see `child_seed`)."""
    return np.random.default_rng(child_seed(run_seed, purpose, *key))
