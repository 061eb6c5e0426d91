"""Graphs on the device, and products with their adjacency matrices.

:class:`Graph` and :func:`propagate` are for custom training loops; the trainer itself uses
:class:`jaxrec.graph.bipartite.Bipartite`.
"""

from jaxrec.graph.general import Graph, propagate

__all__ = ["Graph", "propagate"]
