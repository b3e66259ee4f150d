"""Encoders of a user's past positives for the retrieval query: the interface, and the registry.

A bag adds vectors of the past positives that are trained for this purpose. A sequence encoder reads the vectors of the
items themselves, in order; its output after position t is trained to find the item at position t + 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, final

from evorec.models.choice import Choice
from evorec.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class Parameter(NamedTuple):
    """A matrix of an encoder, or a vector as a single row.

    Attributes:
        name: unique in the encoder.
        shape: rows and columns.
        scale: standard deviation of the initial draw; 0 = the constant `start`.
        start: initial value where nothing is drawn.
        decayed: whether weight decay applies.
    """

    name: str
    shape: tuple[int, int]
    scale: float = 0.0
    start: float = 0.0
    decayed: bool = False


@final
@dataclass(frozen=True)
class Sequences:
    """Sequences side by side: N positions without padding, and their cells in a grid ``[S, L]``.

    A row of the grid holds a sequence, or several short sequences one behind the other.

    Attributes:
        cell: index of each position in the flat grid, ``[N]``; ``None`` = the positions are the whole grid.
        owner: number of the sequence of each cell, equal for neighbours in the order of time, ``[S, L]``; -1 = padding.
        order: number of each position, ``[N]``: its distance from the end of the user's sequence, 0 = the latest.
    """

    cell: Tensor | None
    owner: Tensor
    order: Tensor

    def to_grid(self, x: Tensor) -> Tensor:
        """``[G, N, F] -> [G, S, L, F]``, zeros in the padding."""
        n, length = self.owner.shape
        if self.cell is not None:
            x = x.new_zeros(x.shape[0], n * length, x.shape[2]).index_copy(1, self.cell, x)
        return x.reshape(x.shape[0], n, length, x.shape[2])

    def from_grid(self, grid: Tensor) -> Tensor:
        """``[G, S, L, F] -> [G, N, F]``."""
        flat = grid.flatten(1, 2)
        return flat if self.cell is None else flat.index_select(1, self.cell)


class EncoderRun:
    """Parameters and dropout of G members of equal architecture that encode the same sequences.

    Args:
        parameters: by name, ``[G, rows, columns]``.
        sequences: which positions follow each other.
        settings: the genes that decide the architecture, equal for all members.
        drop: called with the number of a layer and a tensor ``[G, N, F]``; gives the tensor after dropout. ``None`` =
            no dropout.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], sequences: Sequences, settings: Mapping[str, Any], drop: Any = None
    ) -> None:
        self._parameters, self.sequences, self.settings, self._drop = parameters, sequences, settings, drop

    def __getitem__(self, name: str) -> Tensor:
        return self._parameters[name]

    def dropped(self, layer: int, x: Tensor) -> Tensor:
        """The tensor ``[G, N, F]`` after the dropout of a layer."""
        dropped: Tensor = x if self._drop is None else self._drop(layer, x)
        return dropped

    def linear(self, name: str, x: Tensor) -> Tensor:
        """A linear layer, ``[G, N, in] -> [G, N, out]``, with a bias if there is one of its name."""
        out: Tensor = x.bmm(self[f"{name}.weight"])
        return out + self[f"{name}.bias"] if f"{name}.bias" in self._parameters else out

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Layer normalisation (Ba et al. 2016)."""
        import torch.nn.functional as F  # noqa: N812

        out: Tensor = F.layer_norm(x, x.shape[-1:]) * self[f"{name}.gain"] + self[f"{name}.bias"]
        return out


class Encoder(Choice):
    """How the past positives of a user become a vector of the retrieval query.

    Attributes:
        is_sequence: whether it reads the items' own vectors in order, and has the methods below.
    """

    is_sequence: bool = True

    def describe(self, settings: Mapping[str, Any]) -> str:
        """The encoder of a member in a clause.

        Args:
            settings: the member's own values of `genes`.
        """
        return self.text

    def parameters(self, settings: Mapping[str, Any], dim: int, n_past: int) -> Sequence[Parameter]:
        """Its parameters.

        Args:
            settings: the member's own values of `genes`.
            dim: E of the items' vectors and of the output.
            n_past: most positions of a sequence.
        """
        return ()

    def encode(self, run: EncoderRun, items: Tensor) -> Tensor:
        """The state after each position, of about unit length, which depends on this and earlier positions only.

        Args:
            run: parameters, sequences and dropout.
            items: vectors of the items, ``[G, N, E]``.
        Returns:
            ``[G, N, E]``.
        """
        raise NotImplementedError

    def macs(self, settings: Mapping[str, Any], dim: int, *, positions: float, pairs: float) -> float:
        """Multiply-adds of a forward pass.

        Args:
            settings, dim: see `parameters`.
            positions: N.
            pairs: cells of the grid times the length of its rows, ``S L^2``.
        """
        return 0.0

    def values(self, settings: Mapping[str, Any], dim: int, *, positions: float, pairs: float) -> float:
        """Activations that exist at the same time; arguments as for `macs`."""
        return 0.0


ENCODERS: Registry[Encoder] = Registry("encoder", package="evorec.models.encoders")
"""Encoders of the past."""
PREFIX = "encoder."
"""An array of a member is named by this, the encoder and the parameter: ``encoder.gru.input.bias``."""


def own_name(array: str) -> str:
    """Name of a parameter in its encoder, from the name of the array."""
    return array.removeprefix(PREFIX).split(".", 1)[1]
