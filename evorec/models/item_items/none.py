"""No item-item scores: a user vector and item vectors alone."""

from __future__ import annotations

from typing import final

from evorec.models.item_item import ITEM_ITEMS, ItemItem, ItemItemModel, Positives, Settings


@final
class NoItemItem(ItemItem):
    """A matrix of zeros that takes nothing."""

    name, order = "none", 0
    text = "the vectors of users and items alone make the retrieval score"

    def fit(self, positives: Positives, settings: Settings) -> ItemItemModel:
        return ItemItemModel(positives.n_items)

    def fit_flops(self, positives: Positives, settings: Settings) -> int:
        return 0

    def fit_bytes(self, positives: Positives, settings: Settings) -> int:
        return 0

    def stored_values(self, positives: Positives, settings: Settings) -> tuple[int, int]:
        return 0, 0

    def request_macs(self, positives: Positives, settings: Settings, length: float) -> int:
        return 0


ITEM_ITEMS.register(NoItemItem.name, NoItemItem())
