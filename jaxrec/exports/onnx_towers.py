"""Export the towers of a two-tower model to ONNX, to embed new users and items from features."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxrec import config as configs
from jaxrec.errors import InputError
from jaxrec.exports.onnx_graph import OnnxGraph
from jaxrec.runfolder import Embeddings, read_json, read_parameters

NEEDS = {"onnx": "onnx"}
_TEXTS = {"domain": "ai.onnx.ml"}


def write(table: Embeddings, path: Path, run: Path) -> list[str]:
    """Write a folder with user.onnx and item.onnx, or one of them if only that side has features.

    Each model has one input per feature column, named by side and column, such as ``item.price``:

    * a number is float32 [n], NaN where missing;
    * a vector is float32 [n, W], a row of NaN where missing;
    * a category is string [n], '' where missing;
    * a bag is string [n, W] for any W, padded with ''.

    The output ``embedding`` [n, D] float32 is the embedding that ``jaxrec embed`` computes.

    Raises:
      InputError: the model is not two-tower, it has no features, or its ids have no learned vector
        for new users and items.
    """
    model = configs.load(run / "config.json").model
    if model.name != "two-tower":
        raise InputError(
            f"export to onnx-towers: {model.name} has no towers; `jaxrec embed` embeds new items, "
            "and --to onnx exports the ranking"
        )
    parameters, schemas = read_parameters(run), read_json(run / "features.json")
    if model.ids and "unknown" not in parameters:
        raise InputError(
            "export to onnx-towers: the ids of this model have no learned vector for new users and "
            "items; use `jaxrec embed`, or train with --model.id-dropout 0.1"
        )
    sides = [side for side in ("user", "item") if schemas.get(side)]
    if not sides:
        raise InputError("export to onnx-towers: the towers of this run have no features as input")
    path.mkdir()
    lines = []
    for side in sides:
        start = f"{side}/"
        own = {n.removeprefix(start): x for n, x in parameters.items() if n.startswith(start)}
        if model.ids:
            own["hidden id"] = parameters["unknown"][int(side == "item")]
        graph, inputs = OnnxGraph(), []
        first = _first(graph, side, schemas[side], own, model.bags, inputs)
        vector = _layers(graph, first, own, model.activation, model.final)
        if model.score == "cosine":
            vector = _unit(graph, vector)
        graph.output("embedding", vector, "FLOAT", ["n", model.dim])
        graph.write(path / f"{side}.onnx")
        lines.append(f"{side}.onnx: embedding [n, {model.dim}] from {', '.join(inputs)}")
    return lines


def _first(
    graph: OnnxGraph,
    side: str,
    schema: dict[str, Any],
    own: dict[str, np.ndarray],
    bags: str,
    inputs: list[str],
) -> str:
    """Add nodes for the encoding of features (data.schema.encode) and for the tower's first layer.

    Args:
      schema: the side's part of features.json.
      own: the tower's parameters by path.
      inputs: receives a description of each input.

    Returns:
      The layer's output [n, H] before its activation.
    """
    bias_H = own["features/bias"]
    if "hidden id" in own:
        bias_H = bias_H + own["hidden id"] @ own["of_id"]
    total = graph.constant(bias_H)

    def given(column: str, kind: str, *shape: str | int) -> str:
        sizes = ["n", *shape]
        inputs.append(f"{side}.{column} ({kind.lower()} [{', '.join(map(str, sizes))}])")
        return graph.input(f"{side}.{column}", kind, sizes)

    numbers, flags, vectors = [], [], []
    for name, scale in schema["numbers"].items():
        value_n1 = graph.add("Unsqueeze", given(name, "FLOAT"), graph.constant(np.array([1])))
        wide_n1 = graph.add("Cast", value_n1, to=_type("DOUBLE"))
        wide_n1 = graph.add("Sub", wide_n1, graph.constant(np.float64(scale["mean"])))
        wide_n1 = graph.add("Div", wide_n1, graph.constant(np.float64(scale["std"])))
        standard_n1 = graph.add("Cast", wide_n1, to=_type("FLOAT"))
        missing_n1 = graph.add("IsNaN", value_n1)
        numbers.append(_zero_where(graph, missing_n1, standard_n1))
        flags.append(graph.add("Cast", missing_n1, to=_type("FLOAT")))
    for name, width in schema["vectors"].items():
        value_nW = given(name, "FLOAT", width)
        missing_nW = graph.add("IsNaN", value_nW)
        flag_nW = graph.add("Cast", missing_nW, to=_type("FLOAT"))
        vectors.append(_zero_where(graph, missing_nW, value_nW))
        vectors.append(graph.add("ReduceMin", flag_nW, axes=[1]))
    if numbers or vectors:
        number_nF = graph.add("Concat", *numbers, *flags, *vectors, axis=1)
        number_nH = graph.add("MatMul", number_nF, graph.constant(own["features/number"]))
        total = graph.add("Add", total, number_nH)
    for n, (name, names) in enumerate(schema["categories"].items()):
        code_n = _codes(graph, given(name, "STRING"), names)
        rows = graph.constant(own[f"features/category/{n}"])
        total = graph.add("Add", total, graph.add("Gather", rows, code_n, axis=0))
    for n, (name, words) in enumerate(schema["bags"].items()):
        code_nW = _codes(graph, given(name, "STRING", f"width of {name}"), words["names"])
        share_nC = _shares(graph, code_nW, len(words["names"]), words["width"], mean=bags == "mean")
        rows = graph.constant(own[f"features/bag/{n}"])
        total = graph.add("Add", total, graph.add("MatMul", share_nC, rows))
    return total


def _codes(graph: OnnxGraph, texts: str, names: list[str]) -> str:
    """Add a node that looks up the code of each text; an unknown text gets code 0."""
    codes = list(range(len(names)))
    return graph.add(
        "LabelEncoder", texts, keys_strings=names, values_int64s=codes, default_int64=0,
        **_TEXTS,
    )  # fmt: skip


def _shares(graph: OnnxGraph, code_nW: str, n_names: int, width: int, *, mean: bool) -> str:
    """Add nodes that compute the weight of each of the C names in each bag, [n, C].

    An empty bag has weight 1 for code 0.
    """
    switch = graph.constant(np.array([0, 1], np.float32))
    hot_nWC = graph.add("OneHot", code_nW, graph.constant(np.array([n_names])), switch, axis=2)
    hot_nC = graph.add("ReduceMax", hot_nWC, axes=[1], keepdims=0)
    name_C, empty_C = np.ones(n_names, np.float32), np.zeros(n_names, np.float32)
    name_C[0], empty_C[0] = 0, 1
    hot_nC = graph.add("Mul", hot_nC, graph.constant(name_C))
    # As in training, a bag keeps only its first ``width`` names.
    place_nC = graph.add("CumSum", hot_nC, graph.constant(np.array(1)))
    fits_nC = graph.add("LessOrEqual", place_nC, graph.constant(np.float32(width)))
    hot_nC = graph.add("Mul", hot_nC, graph.add("Cast", fits_nC, to=_type("FLOAT")))
    axis, one = graph.constant(np.array([1])), graph.constant(np.float32(1))
    count_n1 = graph.add("ReduceSum", hot_nC, axis)
    least_n1 = graph.add("Max", count_n1, one)
    if mean:
        hot_nC = graph.add("Div", hot_nC, least_n1)
    none_n1 = graph.add("Sub", least_n1, count_n1)  # 1 for an empty bag, else 0
    return graph.add("Add", hot_nC, graph.add("Mul", none_n1, graph.constant(empty_C)))


def _layers(
    graph: OnnxGraph, h: str, own: dict[str, np.ndarray], activation: str, final: str
) -> str:
    """Add the tower's layers after its first layer, whose output is ``h``."""
    for n in range(sum(name.startswith("weight/") for name in own)):
        h = graph.add(
            "MatMul", _activated(graph, h, activation), graph.constant(own[f"weight/{n}"])
        )
        h = graph.add("Add", h, graph.constant(own[f"shift/{n}"]))
    if final == "softmax":
        return graph.add("Softmax", h, axis=1)
    return graph.add("Relu", h) if final == "relu" else h


def _activated(graph: OnnxGraph, h: str, activation: str) -> str:
    if activation != "gelu":
        return graph.add({"relu": "Relu", "tanh": "Tanh"}[activation], h)
    # jax.nn.gelu: 0.5 h (1 + tanh(sqrt(2 / pi) (h + 0.044715 h^3))).
    cube = graph.add("Mul", graph.add("Mul", h, h), h)
    inner = graph.add("Add", h, graph.add("Mul", cube, graph.constant(np.float32(0.044715))))
    scaled = graph.add("Mul", inner, graph.constant(np.float32(np.sqrt(2 / np.pi))))
    lifted = graph.add("Add", graph.add("Tanh", scaled), graph.constant(np.float32(1)))
    return graph.add("Mul", graph.add("Mul", h, lifted), graph.constant(np.float32(0.5)))


def _unit(graph: OnnxGraph, x_nD: str) -> str:
    """Add nodes that scale rows to length 1; a row of zeros stays zero."""
    length_n1 = graph.add("ReduceL2", x_nD, axes=[1])
    return graph.add("Div", x_nD, graph.add("Max", length_n1, graph.constant(np.float32(1e-30))))


def _zero_where(graph: OnnxGraph, missing: str, value: str) -> str:
    return graph.add("Where", missing, graph.constant(np.float32(0)), value)


def _type(name: str) -> int:
    from onnx import TensorProto  # pyright: ignore[reportMissingImports]

    return getattr(TensorProto, name)
