"""Build ONNX graphs node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_OPSETS = {"": 17, "ai.onnx.ml": 3}


class OnnxGraph:
    """An ONNX graph under construction. Methods that add a value return the value's name."""

    def __init__(self) -> None:
        self._nodes, self._constants, self._inputs, self._outputs = [], [], [], []

    def input(self, name: str, kind: str, shape: list[str | int]) -> str:
        """Add an input of type ``kind`` (FLOAT, INT64 or STRING).

        A string in ``shape`` names a dynamic axis.
        """
        self._inputs.append(_value(name, kind, shape))
        return name

    def constant(self, array: np.ndarray | np.generic) -> str:
        """Add a constant."""
        from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        return self.several(op, 1, *inputs, domain=domain, **attributes)[0]

    def several(
        self, op: str, outputs: int, *inputs: str, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs, and return their names."""
        from onnx import helper  # pyright: ignore[reportMissingImports]

        names = [f"value_{len(self._nodes)}_{n}" for n in range(outputs)]
        self._nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names

    def output(self, name: str, value: str, kind: str, shape: list[str | int]) -> None:
        """Make a value an output of the graph."""
        from onnx import helper  # pyright: ignore[reportMissingImports]

        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(_value(name, kind, shape))

    def write(self, path: Path) -> None:
        """Check the graph and write it to a file."""
        import onnx  # pyright: ignore[reportMissingImports]
        from onnx import helper  # pyright: ignore[reportMissingImports]

        graph = helper.make_graph(
            self._nodes, "jaxrec", self._inputs, self._outputs, self._constants
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())


def _value(name: str, kind: str, shape: list[str | int]) -> Any:
    from onnx import TensorProto, helper  # pyright: ignore[reportMissingImports]

    return helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)
