"""Scoring and ranking as an ONNX model: rows of users to rows of items and their scores."""

from pathlib import Path

import numpy as np

from jaxrec.errors import InputError
from jaxrec.exports.inner_products import products
from jaxrec.runfolder import Embeddings

NEEDS = {"onnx": "onnx"}
_OPSET = 17
_MOST_BYTES = 2**31 - 2**20  # a protobuf holds no more


def write(table: Embeddings, path: Path, run: Path) -> list[str]:
    """Inputs user [n] int64 and k [1] int64; outputs item [n, k] int64 and score [n, k] float32.

    The tables are in the file, and the ids in its metadata-free neighbour: rows are those of
    ``jaxrec export --to npz``. Nothing is masked: ask for as many more as the user has.

    Raises:
      InputError: a model that scores by a learned function, or tables beyond 2 GB.
    """
    import onnx  # pyright: ignore[reportMissingImports]
    from onnx import TensorProto, helper, numpy_helper  # pyright: ignore[reportMissingImports]

    query_UD, item_ID = products(table, "onnx")
    if query_UD.nbytes + item_ID.nbytes > _MOST_BYTES:
        raise InputError("export to onnx: the tables exceed 2 GB, and a model file holds no more")
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
    return ["inputs user [n] and k [1], rows from 0; outputs item and score [n, k], nothing masked"]
