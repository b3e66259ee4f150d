"""External ids and their indices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, final

import numpy as np

from evorec.errors import DataError
from evorec.serving.queries import Id

_INTEGER = re.compile(r"-?[0-9]{1,19}")


@final
class Ids:
    """External ids of users or items, and the index of each.

    Args:
        ids: ``(n,)``, all numbers or all texts, without duplicates.
    """

    def __init__(self, ids: Sequence[Id]) -> None:
        self.ids = list(ids)
        self._index = {id_: index for index, id_ in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def index(self, id_: Id | np.integer[Any] | None) -> int | None:
        """Index of an id, ``None`` for an unknown id; a number may be written as text.

        Raises:
            DataError: it is neither a number nor a text.
        """
        if id_ is None:
            return None
        if isinstance(id_, np.integer):
            id_ = int(id_)
        if isinstance(id_, bool) or not isinstance(id_, int | str):
            raise DataError(f"an id must be an integer or a text, got {id_!r}.")
        found = self._index.get(id_)
        if found is None and isinstance(id_, str) and _INTEGER.fullmatch(id_):
            found = self._index.get(int(id_))
        elif found is None and isinstance(id_, int):
            found = self._index.get(str(id_))
        return found
