"""External ids and their places."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, final

import numpy as np

from evorec.errors import DataError
from evorec.serving.queries import Id

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,19}")


@final
class Ids:
    """External ids of users or items, and the place of each.

    Args:
        ids: ``(n,)``, all numbers or all texts, none twice.
    """

    def __init__(self, ids: Sequence[Id]) -> None:
        self.ids = list(ids)
        self._place = {one: place for place, one in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def place(self, one: Id | np.integer[Any] | None) -> int | None:
        """Place of an id, ``None`` if it is not known; a number may be written as text.

        Raises:
            DataError: it is neither a number nor a text.
        """
        if one is None:
            return None
        if isinstance(one, np.integer):
            one = int(one)
        if isinstance(one, bool) or not isinstance(one, int | str):
            raise DataError(f"an id must be a whole number or a text, got {one!r}.")
        found = self._place.get(one)
        if found is None and isinstance(one, str) and _WHOLE_NUMBER.fullmatch(one):
            found = self._place.get(int(one))
        elif found is None and isinstance(one, int):
            found = self._place.get(str(one))
        return found
