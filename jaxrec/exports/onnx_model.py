"""Export to an ONNX model that maps users to their best items and scores, by row number."""

from pathlib import Path

import numpy as np

from jaxrec.errors import InputError
from jaxrec.exports.inner_products import products
from jaxrec.runfolder import Embeddings

NEEDS = {"onnx": "onnx"}
_OPSET = 17
_MOST_BYTES = 2**31 - 2**20  # protobuf's limit, minus some room for the graph


def write(table: Embeddings, path: Path, run: Path) -> list[str]:
    """Write a model with inputs user [n] and k [1], and outputs item [n, k] and score [n, k].

    Scores are float32, everything else is int64. The file holds the tables but no ids: row numbers
    are those of ``jaxrec export --to npz``. The items that a user has are not excluded, so k should
    be larger by their number.

    Raises:
      InputError: the model scores by a learned function, or the tables exceed 2 GB.
    """
    import onnx  # pyright: ignore[reportMissingImports]
    from onnx import TensorProto, helper, numpy_helper  # pyright: ignore[reportMissingImports]

    query_UD, item_ID = products(table, "onnx")
    if query_UD.nbytes + item_ID.nbytes > _MOST_BYTES:
        raise InputError(
            "export to onnx: the tables exceed the 2 GB that a model file can hold; export to jax "
            "instead"
        )
    nodes = [
        helper.make_node("Gather", ["query", "user"], ["of_user"], axis=0),
        helper.make_node("MatMul", ["of_user", "item_vectors"], ["every"]),
        helper.make_node("TopK", ["every", "k"], ["score", "item"], axis=1, largest=1, sorted=1),
    ]
    graph = helper.make_graph(
        nodes,
        "jaxrec",
        [
            helper.make_tensor_value_info("user", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("k", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("item", TensorProto.INT64, ["n", "k"]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", "k"]),
        ],
        [
            numpy_helper.from_array(query_UD, "query"),
            numpy_helper.from_array(np.ascontiguousarray(item_ID.T), "item_vectors"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return [
        "inputs: user [n] and k [1]; outputs: item and score [n, k]; users and items are row "
        "numbers, and no items are excluded"
    ]
