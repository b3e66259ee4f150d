"""A genome in sentences, from the texts of its genes and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from evorec.models.balancing import BALANCINGS
from evorec.models.choice import Choice
from evorec.models.encoder import ENCODERS
from evorec.models.item_item import ITEM_ITEMS
from evorec.models.mechanism import mechanism_of
from evorec.models.optimizer import OPTIMIZERS
from evorec.models.retrieval_loss import RETRIEVAL_LOSSES
from evorec.models.spec import ModelSpec
from evorec.space.space import SearchSpace

OPTIONS: Final[Mapping[str, Mapping[str, Choice]]] = {
    "balancing": BALANCINGS,
    "optimizer": OPTIMIZERS,
    "retrieval_loss": RETRIEVAL_LOSSES,
    "encoder": ENCODERS,
    "item_item": ITEM_ITEMS,
}
"""Genes whose options have texts of their own."""
NO_RANKER: Final = "Retrieval only: users and items are vectors, no ranker re-orders the retrieved items."


def describe(genes: Mapping[str, Any], space: SearchSpace) -> list[str]:
    """The mechanism, every gene that differs from the default genome, and the genes that are at their default.

    Args:
        genes: decoded genome.
        space: of the search.
    Raises:
        ConfigError: the genes make no model spec.
    """
    spec = ModelSpec.from_genes(genes)
    mechanism = mechanism_of(spec).describe(spec) if spec.task_weights else NO_RANKER
    lines, unchanged = [mechanism], []
    for gene in space.genes:
        if gene.name == "mechanism" or gene.name not in genes:
            continue
        value = genes[gene.name]
        if gene.name in OPTIONS:
            option = OPTIONS[gene.name][value]
            lines.append(f"{gene.name} {value}: {option.text or gene.text}.")
        elif _listed(value) == _listed(gene.default):
            unchanged.append(f"{gene.name} {shown(value)}")
        else:
            lines.append(f"{gene.name} {shown(value)} (default {shown(gene.default)}): {gene.text}.")
    return [*lines, *([f"At their defaults: {', '.join(unchanged)}."] if unchanged else [])]


def shown(value: Any) -> str:
    """A gene's value in a sentence; task weights as shares.

    Example:
        >>> shown(0.00316), shown(True), shown([1.5, 1.2, 0.3]), shown(None)
        ('0.00316', 'on', '50 : 40 : 10 %', 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return " : ".join(f"{100 * part / sum(value):.0f}" for part in value) + " %"
    if isinstance(value, int | float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
