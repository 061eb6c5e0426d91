"""Graphs on the device, and the products with their adjacency matrices.

:class:`Graph` and :func:`propagate` are for training loops of one's own; the trainer itself uses
:class:`jaxrec.graph.bipartite.Bipartite`.
"""

from jaxrec.graph.general import Graph, propagate

__all__ = ["Graph", "propagate"]
