import os
import time

import numpy as np

from evorec.data.content.stored import OLD_S, stored

VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_leftovers_of_killed_processes_are_removed_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EVOREC_CACHE", str(tmp_path))
    assert stored("a", ("numpy",), lambda: VECTORS).tolist() == VECTORS.tolist()
    (file,) = (tmp_path / "vectors").iterdir()
    file.unlink()
    workspace = file.parent / f".{file.name[:40]}.00000000.part"
    workspace.mkdir()
    for name, age_s in (("old.tmp", 2 * OLD_S), ("new.tmp", 0)):
        (file.parent / name).write_bytes(b"half")
        os.utime(file.parent / name, (time.time() - age_s,) * 2)
    stored("a", ("numpy",), lambda: VECTORS)
    assert sorted(path.name for path in file.parent.iterdir()) == sorted([file.name, "new.tmp"])
    assert stored("a", ("numpy",), lambda: 1 / 0).tolist() == VECTORS.tolist()
