"""Options of the genes that are names: mechanisms, balancings, optimisers and retrieval losses.

Nothing here needs torch: the search space is built, and a configuration checked, without it.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

from evorec.registry import Registry
from evorec.space.genes import Gene, Real, When

LAST = 1000
"""Order of the options that do not set their own."""


class Choice(abc.ABC):
    """An option of a gene, with the genes that count for this option only.

    A class per option; its only instance is registered where the class is defined.

    Attributes:
        name: value of the gene.
        text: a clause that describes the option, as `evorec explain` prints it.
        order: index among the options of the gene. A column of the genome codes this index, so it never changes.
            Options of plugins come last, in order of registration.
        optional: whether a configuration must name the option for a search to try it. Optional options come last.
    """

    name: str
    text: str = ""
    order: int = LAST
    optional: bool = False

    def genes(self, n_layers: int) -> Sequence[Gene]:
        """Genes that are active only when this option is chosen.

        Args:
            n_layers: L, upper bound of depths.
        """
        return ()

    @cached_property
    def gene_names(self) -> tuple[str, ...]:
        """Names of `genes`."""
        return tuple(gene.name for gene in self.genes(1))


class SharingChoice(Choice):
    """The properties of a mechanism (`evorec.models.mechanism.Mechanism`) that the search space and a `ModelSpec` read.

    Attributes:
        family: members of mechanisms of the same family may run in the same batched products; empty = the
            mechanism's name.
        is_ragged: whether members of different depth and settings may share batched products.
        needs_funnel: whether a task must have a parent (`tasks.funnel`).
        has_task_tables: whether the mechanism is defined by an embedding table per task; else the gene
            `task_embeddings`, if the mechanism has it, decides.
        pads_exactly: whether units of zeros at the end of every layer leave the logits the same.
        trunk_reads_input: whether only the lowest layer reads the embeddings: tables of tasks above a shared layer
            would never be read, and are left out.
    """

    family: str = ""
    is_ragged: bool = False
    needs_funnel: bool = False
    has_task_tables: bool = False
    pads_exactly: bool = True
    trunk_reads_input: bool = False

    def idle_genes(self, genes: Mapping[str, Any]) -> frozenset[str]:
        """Genes of this mechanism that have no effect, given the values of the others.

        Args:
            genes: decoded genome.
        """
        unread = self.trunk_reads_input and genes.get("sharing_depth", 0) > 0
        return frozenset({"task_embeddings"} if unread else ())


MECHANISMS: Registry[SharingChoice] = Registry("mechanism", package="evorec.models.mechanisms")
"""How tasks share. `evorec.models.mechanism.mechanism_of` gives the program of a spec."""

C = TypeVar("C", bound=Choice)


def ordered(registry: Mapping[str, C]) -> list[C]:
    """The registered options in the order in which a genome codes them."""
    return sorted(registry.values(), key=lambda choice: choice.order)


def merged(lists: Iterable[Sequence[str]]) -> list[str]:
    """All names, each after those that precede it in any list, else in order of first appearance.

    Example:
        >>> merged([["depth", "tables"], ["experts", "tables"], ["depth", "tables", "penalty"]])
        ['depth', 'experts', 'tables', 'penalty']
    """
    left, out = [list(names) for names in lists], []
    while left := [names for names in left if names]:
        heads = [names[0] for names in left]
        out.append(next((head for head in heads if not any(head in names[1:] for names in left)), heads[0]))
        left = [[name for name in names if name != out[-1]] for names in left]
    return out


POSITIVE = (1e-12, 1e12)
"""Limits of a gene that must stay above 0, however its bounds are moved."""


def log_gene(name: str, low: float, high: float, default: float, text: str, *, condition: When | None = None) -> Real:
    """A positive number on a log scale."""
    return Real(name, low, high, scale="log", default=default, limits=POSITIVE, text=text, condition=condition)
