"""Graph layers: ids of users and items as means over their neighbourhoods, trained through or put on at the end.

The graph joins each user with the items of their target positives. With its matrix A, scaled by the degrees of both
ends as ``D^-1/2 A D^-1/2``, the layers are ``E_(l + 1) = D^-1/2 A D^-1/2 E_l`` of the trained rows ``E_0``, and the
mean of the layers 0..L takes the place of the id rows. Features, content, histories and tables of tasks are not
smoothed, and an id without a positive keeps its row. After training the means replace the rows, so that measuring,
storing and serving know of no graph.

A member that trains through its layers reads the means in every step: the whole graph is propagated forward, and the
gradient back by the same product, since the matrix is symmetric. It reaches the neighbours of the batch, so all rows of
the graph are updated in every step. Another member trains as if it had no layers, and pays for a single propagation.

Source: He et al., "LightGCN: simplifying and powering graph convolution network for recommendation", SIGIR 2020,
equations 7, 8 and 11; layers without training through them: Ju et al., "How does message passing improve collaborative
filtering?", NeurIPS 2024. Cost: O(L nnz E), once or per step forward and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from evorec.models.spec import ModelSpec
    from evorec.training.plan import GraphRows, PositiveGraph, Sums


@final
class Smoothing:
    """Means of layers of the members whose columns are side by side.

    Args:
        members: the spec and the columns of each, at least one of them with layers.
        dtype, device: of the rows.
    """

    def __init__(
        self, members: Sequence[tuple[ModelSpec, slice]], *, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        layers = torch.zeros(max(own.stop for _, own in members), dtype=torch.long)
        for spec, own in members:
            layers[own] = spec.graph_layers
        self._shares = (1 / (1 + layers.double())).to(dtype).to(device)
        # Columns of the members that have a layer, and their index among those that have the layer before.
        self._layers: list[tuple[Tensor, Tensor]] = []
        before = torch.arange(len(layers))
        for layer in range(1, int(layers.max()) + 1):
            inside = (layers[before] >= layer).nonzero().flatten()
            before = before[inside]
            self._layers.append((before.to(device), inside.to(device)))

    def seen(self, values: Tensor, graph: GraphRows) -> Tensor:
        """The rows of a step as the model reads them.

        Args:
            values: trained rows ``[N + m, C]`` of the N nodes and of the other rows.
            graph: of the step.
        Returns:
            ``[n, C]`` in the order of `Step.rows`.
        """
        n = graph.n_nodes
        smooth = self._mean(values[:n], graph.neighbours)
        return torch.cat([smooth, values[n:]]).index_select(0, graph.slots)

    def back(self, grad: Tensor, graph: GraphRows) -> Tensor:
        """Gradients ``[N + m, C]`` of the trained rows from those of the rows that were read, ``[n, C]``."""
        out = grad.new_zeros(len(graph.rows), grad.shape[1]).index_copy_(0, graph.slots, grad)
        # The transpose of a symmetric matrix.
        out[: graph.n_nodes] = self._mean(out[: graph.n_nodes], graph.neighbours)
        return out

    def put(self, table: Tensor, graph: PositiveGraph) -> None:
        """Replaces the rows of the nodes in a table ``[R, C]`` by their means, once training is over."""
        table.index_copy_(0, graph.rows, self._mean(table.index_select(0, graph.rows), graph.neighbours))

    def _mean(self, nodes: Tensor, neighbours: Sums) -> Tensor:
        out, last = nodes.clone(), nodes
        for columns, inside in self._layers:
            last = neighbours.of(last.index_select(1, inside))
            out.index_add_(1, columns, last)
        return out.mul_(self._shares)
