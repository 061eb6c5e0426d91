"""Export the ranking as a JAX function that runs without jaxrec.

The export is a folder: rank.bin is for ``jax.export.deserialize``, arrays.npz holds the function's
arguments and the ids, and use.py shows how to call the function.
"""

from pathlib import Path

import numpy as np

from jaxrec.exports.inner_products import products
from jaxrec.files import write_npz
from jaxrec.runfolder import Embeddings

NEEDS = {"flatbuffers": "flatbuffers"}  # jax.export needs this package
_K = 100
_PLATFORMS = ("cpu", "cuda", "tpu")
_USE = """\
import jax, numpy as np
from jax import export  # jax.export is a module of its own

arrays = np.load("arrays.npz")
rank = export.deserialize(bytearray(open("rank.bin", "rb").read()))
items, scores = rank.call(arrays["query"][:3], arrays["item"])  # rows of users, all items
print(arrays["item_ids"][np.asarray(items)])
"""


def write(table: Embeddings, path: Path, run: Path) -> list[str]:
    """Write the folder with the function ``rank(query [n, D], item [I, D])``.

    The function returns the best items [n, k] and their scores, where k is 100, or the number of
    items if there are fewer.
    """
    import jax
    from jax import export

    query_UD, item_ID = products(table, "jax")
    k = min(_K, len(item_ID))

    def rank(query_nD: jax.Array, item_ID: jax.Array) -> tuple[jax.Array, jax.Array]:
        score_nI = jax.numpy.matmul(query_nD, item_ID.T, precision=jax.lax.Precision.HIGHEST)
        score_nk, item_nk = jax.lax.top_k(score_nI, k)
        return item_nk, score_nk

    (n,) = export.symbolic_shape("n")
    shapes = (
        jax.ShapeDtypeStruct((n, query_UD.shape[1]), np.float32),
        jax.ShapeDtypeStruct(item_ID.shape, np.float32),
    )
    exported = export.export(jax.jit(rank), platforms=_PLATFORMS)(*shapes)
    path.mkdir()
    (path / "rank.bin").write_bytes(exported.serialize())
    (path / "use.py").write_text(_USE, encoding="utf-8")
    arrays = {"query": query_UD, "item": item_ID}
    arrays |= {"user_ids": table.user_ids, "item_ids": table.item_ids}
    write_npz(path / "arrays.npz", arrays)
    return [f"ranks lists of {k} items without excluding any; use.py shows how to call it"]
