"""Export to an ONNX model that maps row numbers of users to their best items and scores."""

from pathlib import Path

import numpy as np

from jaxrec.errors import InputError
from jaxrec.exports.inner_products import products
from jaxrec.exports.onnx_graph import OnnxGraph
from jaxrec.runfolder import Embeddings

NEEDS = {"onnx": "onnx"}
_MOST_BYTES = 2**31 - 2**20  # protobuf's limit of 2 GB, minus 1 MB for the rest of the graph


def write(table: Embeddings, path: Path, run: Path) -> list[str]:
    """Write a model with inputs user [n] and k [1], and outputs item [n, k] and score [n, k].

    Scores are float32, everything else is int64. The file holds the embeddings but no ids; the rows
    are in the order of ``jaxrec export --to npz``, which has the ids. The model does not exclude
    items that a user already has: to drop them from its output, add their number to k. Scores omit
    the biases of users and the scale of ratings, which do not change the order of items.

    Raises:
      InputError: the model decodes rating levels, or the tables exceed 2 GB.
    """
    graph = OnnxGraph()
    user, k = graph.input("user", "INT64", ["n"]), graph.input("k", "INT64", [1])
    score = _learned(graph, table, user) if table.score_bias_H is not None else None
    if score is None:
        query_UD, item_ID = products(table, "onnx")
        _check_size(query_UD, item_ID)
        of_user = graph.add("Gather", graph.constant(query_UD), user, axis=0)
        score = graph.add("MatMul", of_user, graph.constant(item_ID.T))
    best, item = graph.several("TopK", 2, score, k, axis=1, largest=1, sorted=1)
    graph.output("item", item, "INT64", ["n", "k"])
    graph.output("score", best, "FLOAT", ["n", "k"])
    graph.write(path)
    return [
        "inputs: user [n] and k [1]; outputs: item and score [n, k]; users and items are row "
        "numbers, and no items are excluded"
    ]


def _learned(graph: OnnxGraph, table: Embeddings, user: str) -> str:
    """Add the nodes that compute the scores [n, I] of jaxrec.models.score.pair_scores.

    Returns the name of the scores. The graph needs memory for an array [n, I, H], where H is the
    width of the hidden layer.
    """
    product_D, of_user_DH = table.score_product_D, table.score_user_DH
    of_item_DH, bias_H, out_H = table.score_item_DH, table.score_bias_H, table.score_out_H
    assert product_D is not None and of_user_DH is not None  # noqa: PT018
    assert of_item_DH is not None and bias_H is not None and out_H is not None  # noqa: PT018
    _check_size(table.user, table.item)
    user_nD = graph.add("Gather", graph.constant(table.user), user, axis=0)
    products_nI = graph.add("MatMul", user_nD, graph.constant((table.item * product_D).T))
    user_nH = graph.add("MatMul", user_nD, graph.constant(of_user_DH))
    user_nH = graph.add("Add", user_nH, graph.constant(bias_H))
    user_n1H = graph.add("Unsqueeze", user_nH, graph.constant(np.array([1])))
    hidden_nIH = graph.add("Add", user_n1H, graph.constant(table.item @ of_item_DH))
    hidden_nIH = graph.add("Relu", hidden_nIH)
    score_nI = graph.add("MatMul", hidden_nIH, graph.constant(out_H))
    score_nI = graph.add("Add", products_nI, score_nI)
    if table.item_bias is not None:
        score_nI = graph.add("Add", score_nI, graph.constant(table.item_bias))
    return score_nI


def _check_size(*tables: np.ndarray) -> None:
    if sum(array.nbytes for array in tables) > _MOST_BYTES:
        raise InputError(
            "export to onnx: the tables exceed the 2 GB that a model file can hold; export to jax "
            "instead"
        )
