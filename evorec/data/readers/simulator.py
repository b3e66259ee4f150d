"""The built-in simulated worlds."""

from __future__ import annotations

from evorec.data.readers import READERS, SIMULATOR, Origin, Reader
from evorec.data.simulator import simulate

READERS.register(
    SIMULATOR,
    Reader("simulated users, set by data.simulator", lambda config: (simulate(config.simulator), Origin(SIMULATOR))),
)
