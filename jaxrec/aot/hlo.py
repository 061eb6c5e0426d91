"""Analyse the text of a compiled program: its launches, bytes, loops and transfers per step.

XLA's own count of bytes is not used: for a GPU it is empty, and for a TPU it counts whole tables
for each gather. Bytes are counted by these rules:

* An instruction reads its operands and writes its result. If an operand of a fusion is only
  gathered or sliced, only the gathered rows are read. If an operand is only scattered into or
  updated, only the updated rows are read and written. Values inside a fusion take no memory.
* A gather reads its indices, and as many bytes of its operand as its result has. A scatter reads
  its updates and indices; of its operand, it reads and writes as many bytes as the updates have. A
  custom call reads all its arguments and writes all its results.
* The bytes of a loop's body are multiplied by the number of iterations if the compiler knows it,
  and counted once otherwise (see ``open_loops``). A conditional counts as its costliest branch.
* Sizes exclude padding; only ``padded`` includes the padding of a TPU's tiles.

By these rules, a program that gathers E rows of D float32 numbers counts at least 4 E D bytes.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_BITS = {"pred": 8, "s4": 4, "u4": 4, "s2": 2, "u2": 2, "token": 0, "opaque": 0}
_FREE = frozenset(
    {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all", "domain"}
    | {"partition-id", "replica-id", "opt-barrier", "add-dependency"}
)
_MOVES = frozenset(("reshape", "transpose", "copy", "convert", "bitcast", "bitcast-convert"))
_COLLECTIVES = frozenset(
    {"all-gather", "all-reduce", "all-to-all", "ragged-all-to-all", "collective-permute"}
    | {"reduce-scatter", "collective-broadcast"}
)
_TRANSFERS = frozenset(["infeed", "outfeed", "send", "recv"])
_LAUNCHED = frozenset(("fusion", "copy", "custom-call", "sort", "gather", "scatter"))
_SHAPE = re.compile(r"(\w+)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_LINE = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)")
_TILE = re.compile(r"T\((\d+(?:,\d+)*)\)")


@dataclass(frozen=True)
class Shape:
    """The type, dimensions and layout of an array."""

    kind: str
    dims: tuple[int, ...]
    layout: str = ""

    @property
    def n_bytes(self) -> int:
        """Bytes without padding."""
        bits = _BITS.get(self.kind)
        if bits is None:
            found = re.search(r"\d+", self.kind)
            bits = int(found[0]) if found else 8
        count = 1
        for n in self.dims:
            count *= n
        return (count * bits + 7) // 8

    @property
    def padded(self) -> int:
        """Bytes with the padding of the layout's tiles."""
        found = _TILE.search(self.layout)
        if found is None or not self.dims:
            return self.n_bytes
        order = [int(n) for n in self.layout.split(":")[0].split(",") if n.strip().isdigit()]
        if len(order) != len(self.dims):
            return self.n_bytes
        tile = [int(n) for n in found[1].split(",")]
        dims = [self.dims[n] for n in order]  # the minor-most dimension first
        for n, side in enumerate(reversed(tile)):
            if n < len(dims):
                dims[n] = -(-dims[n] // side) * side
        count = 1
        for n in dims:
            count *= n
        return count * max(Shape(self.kind, (8,)).n_bytes, 1) // 8

    @property
    def space(self) -> int:
        """The memory space: 0 device memory, 1 a TPU's VMEM, 5 host memory."""
        found = re.search(r"S\((\d+)\)", self.layout)
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Instruction:
    """An instruction of a computation, with the shapes of its results and its operands' names."""

    name: str
    shapes: tuple[Shape, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    root: bool

    def called(self, key: str) -> tuple[str, ...]:
        """Return the names of the computations in the attribute ``key``; () if it is absent."""
        found = re.search(rf"\b{key}=(?:%([\w.\-]+)|\{{([^}}]*)\}})", self.attributes)
        if found is None:
            return ()
        return (found[1],) if found[1] else tuple(_NAME.findall(found[2]))

    @property
    def trips(self) -> int | None:
        """How often a loop runs, or None if the compiler does not know."""
        found = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', self.attributes)
        return int(found[1]) if found else None

    @property
    def custom(self) -> str:
        """The target of a custom call."""
        found = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return found[1] if found else ""


@dataclass(frozen=True)
class Computation:
    """A computation with its instructions by name."""

    name: str
    instructions: dict[str, Instruction]
    parameters: tuple[str, ...]
    root: str

    def users(self, name: str) -> list[Instruction]:
        return [one for one in self.instructions.values() if name in one.operands]


@dataclass(frozen=True)
class Module:
    """The parsed text of a program."""

    computations: dict[str, Computation]
    entry: str
    aliases: int
    """Number of outputs that reuse the buffers of arguments."""


def parse(text: str) -> Module:
    """Parse a program's text, as ``compiled.as_text()`` returns it.

    Raises:
      ValueError: the text is not that of a compiled program.
    """
    computations: dict[str, Computation] = {}
    entry, name, body = "", "", []
    for line in text.splitlines():
        if not name:
            found = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line)
            if found:
                name, body = found[2], []
                entry = name if found[1] else entry
        elif line.startswith("}"):
            computations[name] = _computation(name, body)
            name = ""
        else:
            body.append(line)
    if entry not in computations:
        raise ValueError("no entry computation; is this the text of a compiled program?")
    header = text.split("\n", 1)[0]
    aliases = len(re.findall(r"(?:may|must)-alias", header))
    return Module(computations, entry, aliases)


def _computation(name: str, lines: list[str]) -> Computation:
    instructions: dict[str, Instruction] = {}
    parameters: dict[int, str] = {}
    root = ""
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            continue
        one = _instruction(found[2], found[3], bool(found[1]))
        instructions[one.name] = one
        root = one.name if one.root else root
        if one.opcode == "parameter":
            number = re.search(r"parameter\((\d+)\)", found[3])[1]  # type: ignore[index]
            parameters[int(number)] = one.name
    return Computation(name, instructions, tuple(parameters[n] for n in sorted(parameters)), root)


def _instruction(name: str, rest: str, root: bool) -> Instruction:
    end = _closing(rest) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opcode, _, rest = rest.partition("(")
    close = _closing("(" + rest) - 1
    shapes = tuple(
        Shape(kind, tuple(int(n.lstrip("<=")) for n in dims.split(",") if n), layout or "")
        for kind, dims, layout in _SHAPE.findall(shape)
    )
    operands = tuple(_NAME.findall(rest[:close]))
    return Instruction(name, shapes, opcode.strip(), operands, rest[close + 1 :], root)


def _closing(text: str) -> int:
    """Return the index of the bracket that closes the bracket at the start of the text."""
    depth = 0
    for n, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return n
    return len(text) - 1


@dataclass
class Reading:
    """The analysis of a program or, if the program is a loop of steps, of one step.

    Attributes:
      launches: number of launches by kind ("fusion", "sort", "copy", "custom-call", "scatter" ...),
        with conditionals at their costliest branch. A sort counts as one launch, although a GPU
        runs several kernels for it.
      usual: number of launches by kind, with conditionals at their cheapest branch.
      n_bytes: bytes read and written, by the rules in the module's docstring.
      fast: how many of ``n_bytes`` are read from or written to a TPU's VMEM.
      padded: bytes read and written, with the padding of a TPU's tiles.
      gathers, scatters, sorts: numbers of these instructions, including those inside fusions.
      rows: number of rows that gathers read and scatters write; a TPU handles them one by one.
      atomics: number of scatters that add to rows that may repeat; a GPU uses atomic additions.
      custom: number of custom calls by target.
      collectives: bytes of the results of collectives, by kind.
      transfers: number of transfers to or from the host.
      loops: number of inner loops.
      open_loops: number of inner loops whose length depends on the data.
      float64: whether any array has 64-bit floating-point numbers.
    """

    launches: Counter = field(default_factory=Counter)
    usual: Counter = field(default_factory=Counter)
    n_bytes: int = 0
    fast: int = 0
    padded: int = 0
    gathers: int = 0
    scatters: int = 0
    sorts: int = 0
    rows: int = 0
    atomics: int = 0
    custom: Counter = field(default_factory=Counter)
    collectives: Counter = field(default_factory=Counter)
    transfers: int = 0
    loops: int = 0
    open_loops: int = 0
    float64: bool = False

    @property
    def kernels(self) -> int:
        """Total of ``launches`` without copies."""
        return sum(self.launches.values()) - self.launches["copy"]

    @property
    def usual_kernels(self) -> int:
        """Total of ``usual`` without copies."""
        return sum(self.usual.values()) - self.usual["copy"]

    def add(self, other: "Reading", times: int = 1) -> None:
        """Add another analysis.

        Launches, bytes and rows are multiplied by ``times``; numbers of instructions are not.
        """
        self.launches.update({k: n * times for k, n in other.launches.items()})
        self.usual.update({k: n * times for k, n in other.usual.items()})
        self.n_bytes += other.n_bytes * times
        self.fast += other.fast * times
        self.padded += other.padded * times
        self.rows += other.rows * times
        self.collectives.update({k: n * times for k, n in other.collectives.items()})
        for name in ("gathers", "scatters", "sorts", "atomics", "transfers", "loops", "open_loops"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.custom.update(other.custom)
        self.float64 |= other.float64

    def to_dict(self) -> dict[str, Any]:
        """Return the analysis as a dict for JSON."""
        plain = {
            name: value for name, value in vars(self).items() if not isinstance(value, Counter)
        }
        counted = {
            name: dict(value) for name, value in vars(self).items() if isinstance(value, Counter)
        }
        kernels = {"kernels": self.kernels, "usual_kernels": self.usual_kernels}
        return kernels | plain | counted


def read(text: str, *, steps: bool = False) -> tuple[Reading, Module]:
    """Analyse a program. If ``steps`` is True and the program is a loop, analyse one iteration."""
    module = parse(text)
    found = _Reader(module).computation(_step_body(module) if steps else module.entry)
    found.float64 = bool(re.search(r"\b(?:f64|c128)\[", text))
    return found, module


def _step_body(module: Module) -> str:
    """Return the name of the computation that is one step.

    The entry computation and the computations that it calls are searched for loops. If there is
    exactly one loop, the step is its body; otherwise, the whole entry computation is the step.
    """
    loops, waiting = [], [module.entry]
    while waiting:
        for one in module.computations[waiting.pop()].instructions.values():
            if one.opcode == "while":
                loops.append(one)
            elif one.opcode == "call":  # newer XLA moves a loop into a separate computation
                waiting += one.called("to_apply")
    return loops[0].called("body")[0] if len(loops) == 1 else module.entry


class _Reader:
    """An analyser of the computations of a module."""

    def __init__(self, module: Module) -> None:
        self._computations = module.computations

    def computation(self, name: str) -> Reading:
        """Analyse a computation and all that it calls."""
        total = Reading()
        for one in self._computations[name].instructions.values():
            self._instruction(self._computations[name], one, total)
        return total

    def _instruction(self, where: Computation, one: Instruction, into: Reading) -> None:
        """Add an instruction of the computation ``where`` to an analysis."""
        op = one.opcode
        if op in _FREE or op.endswith(("-done", "-update")):
            return
        if op == "while":
            inner = Reading()
            for part in (*one.called("body"), *one.called("condition")):
                inner.add(self.computation(part))
            into.add(inner, one.trips or 1)
            into.loops += 1
            into.open_loops += one.trips is None
            return
        if op in ("conditional", "call"):
            branches = one.called("branch_computations")
            branches = branches or one.called("true_computation") + one.called("false_computation")
            branches = branches or one.called("to_apply") or one.called("called_computations")
            if branches:
                each = [self.computation(branch) for branch in branches]
                costliest = max(each, key=lambda reading: reading.n_bytes)
                costliest.usual = min(each, key=lambda reading: reading.n_bytes).usual
                into.add(costliest)
            return
        base = op.removesuffix("-start")
        if base == "async" and one.called("calls"):
            into.add(self.computation(one.called("calls")[0]))
            return
        if base in _TRANSFERS:
            into.transfers += 1
        if base in _COLLECTIVES:
            moved = one.shapes[-1:] if op != base else one.shapes
            into.collectives[base] += sum(shape.n_bytes for shape in moved)
        if base == "custom-call":
            into.custom[one.custom] += 1
            into.transfers += "callback" in one.custom
            if one.custom in ("AllocateBuffer", "AssumeGatherIndicesInBound", "Sharding"):
                return
        if op not in _LAUNCHED and all(shape.n_bytes <= 8 for shape in one.shapes):
            return  # such small results are computed by a TPU's scalar unit, without a launch
        self._count_inside(where, one, into)
        for shape, n_bytes in self._traffic(where, one):
            into.n_bytes += n_bytes
            into.fast += n_bytes if shape.space == 1 else 0
            into.transfers += shape.space == 5
            into.padded += n_bytes * shape.padded // max(shape.n_bytes, 1)
        into.launches[base] += 1
        into.usual[base] += 1

    def _count_inside(self, where: Computation, one: Instruction, into: Reading) -> None:
        """Count a gather, scatter or sort; of a fusion, count those among its instructions."""
        for inside, inner in self._flat(where, one):
            if inner.opcode == "gather":
                into.gathers += 1
                indices = inside.instructions[inner.operands[1]].shapes[0]
                into.rows += _rows(inner, indices)
            elif inner.opcode == "scatter":
                into.scatters += 1
                n = (len(inner.operands) - 1) // 2
                into.rows += _rows(inner, inside.instructions[inner.operands[n]].shapes[0])
                into.atomics += self._adds(inner) and "unique_indices=true" not in inner.attributes
            elif inner.opcode == "sort":
                into.sorts += 1

    def _adds(self, scatter: Instruction) -> bool:
        """Return whether a scatter combines new values with old ones instead of replacing them."""
        combine = self._computations[scatter.called("to_apply")[0]]
        root = combine.instructions[combine.root]
        return root.opcode not in ("parameter", "tuple")

    def _flat(
        self, where: Computation, one: Instruction
    ) -> Iterator[tuple[Computation, Instruction]]:
        """Yield the instructions inside a fusion recursively, or the instruction itself."""
        if one.opcode == "fusion":
            inside = self._computations[one.called("calls")[0]]
            for inner in inside.instructions.values():
                yield from self._flat(inside, inner)
        else:
            yield where, one

    def _traffic(self, where: Computation, one: Instruction) -> Iterator[tuple[Shape, int]]:
        """Yield the shapes that an instruction reads and writes, and the bytes of each."""
        operands = [where.instructions[name].shapes for name in one.operands]
        if one.opcode == "fusion":
            inside = self._computations[one.called("calls")[0]]
            for share, shapes in zip(self._read(inside), operands, strict=True):
                yield shapes[0], round(share * sum(shape.n_bytes for shape in shapes))
            yield from self._written(inside, inside.root, one.shapes)
            return
        if one.opcode == "gather":
            yield operands[0][0], one.shapes[0].n_bytes
            yield operands[1][0], operands[1][0].n_bytes
            yield one.shapes[0], one.shapes[0].n_bytes
            return
        if one.opcode == "scatter":
            n = (len(operands) - 1) // 2
            for k in range(n):
                update = operands[n + 1 + k][0]
                yield update, update.n_bytes
                yield one.shapes[k], 2 * update.n_bytes
            yield operands[n][0], operands[n][0].n_bytes
            return
        if one.opcode in ("dynamic-slice", "slice"):
            yield operands[0][0], one.shapes[0].n_bytes
            yield one.shapes[0], one.shapes[0].n_bytes
            return
        if one.opcode == "dynamic-update-slice":
            yield operands[1][0], operands[1][0].n_bytes
            yield one.shapes[0], operands[1][0].n_bytes
            return
        if one.opcode.endswith("-start"):
            for shape in one.shapes[:2]:  # the operand and the result; further shapes are contexts
                yield shape, min(shape.n_bytes, one.shapes[min(1, len(one.shapes) - 1)].n_bytes)
            return
        for shapes in operands:
            for shape in shapes:
                yield shape, shape.n_bytes
        for shape in one.shapes:
            yield shape, shape.n_bytes

    def _read(self, inside: Computation, share: float = 1.0) -> list[float]:
        """Return how many times a fusion reads each operand to compute ``share`` of its result.

        The operand of a gather is read by rows, once for each gather. If the operand is computed
        inside the fusion, the inputs of that computation are read by rows too. An operand of an
        elementwise operation is read once.
        """
        by_rows: dict[str, float] = dict.fromkeys(inside.instructions, 0.0)
        elementwise = by_rows | {inside.root: share}
        for one in reversed(inside.instructions.values()):
            needed = by_rows[one.name] + elementwise[one.name]
            if not needed or not one.operands:
                continue
            for name, part, by_row in self._needs(inside, one, needed):
                if by_row:
                    by_rows[name] += part
                else:
                    elementwise[name] = max(elementwise[name], part)
        return [by_rows[name] + elementwise[name] for name in inside.parameters]

    def _needs(
        self, inside: Computation, one: Instruction, needed: float
    ) -> Iterator[tuple[str, float, bool]]:
        """Yield what an instruction in a fusion reads to compute its result ``needed`` times.

        For each operand, yields its name, how often it is read, and whether it is read by rows.
        """
        size = _elements(one.shapes)

        def times(name: str) -> float:
            return needed * size / max(_elements(inside.instructions[name].shapes), 1)

        first, others = one.operands[0], one.operands[1:]
        if one.opcode == "fusion":
            parts = self._read(self._computations[one.called("calls")[0]], needed)
            yield from (
                (name, part, part > 1) for name, part in zip(one.operands, parts, strict=True)
            )
        elif one.opcode in ("gather", "dynamic-slice", "slice"):
            yield first, times(first), True
            yield from ((name, needed, False) for name in others)
        elif one.opcode == "dynamic-update-slice":
            yield from ((name, needed, False) for name in others)
        elif one.opcode == "scatter":
            n = (len(one.operands) - 1) // 2
            for k, name in enumerate(one.operands):
                if k < n:
                    update = inside.instructions[one.operands[n + 1 + k]].shapes
                    yield name, _elements(update) / max(_elements(one.shapes[k : k + 1]), 1), True
                else:
                    yield name, needed, False
        else:
            yield from ((name, needed, needed > 1) for name in one.operands)

    def _written(
        self, inside: Computation, root: str, shapes: tuple[Shape, ...]
    ) -> Iterator[tuple[Shape, int]]:
        """Yield the shapes that a fusion writes, and the bytes of each."""
        one = inside.instructions[root]
        while one.opcode in ("bitcast", "reshape", "transpose") and one.operands:
            one = inside.instructions[one.operands[0]]
        if one.opcode == "tuple":
            for name, shape in zip(one.operands, shapes, strict=False):
                yield from self._written(inside, name, (shape,))
        elif one.opcode == "scatter":
            n = (len(one.operands) - 1) // 2
            update = sum(
                inside.instructions[name].shapes[0].n_bytes for name in one.operands[n + 1 :]
            )
            computed = inside.instructions[one.operands[0]].opcode not in ("parameter", *_MOVES)
            whole = sum(shape.n_bytes for shape in shapes)
            yield shapes[0], whole if computed else min(update, whole)
        elif one.opcode == "dynamic-update-slice":
            yield shapes[0], inside.instructions[one.operands[1]].shapes[0].n_bytes
        elif one.opcode == "fusion":
            nested = self._computations[one.called("calls")[0]]
            yield from self._written(nested, nested.root, shapes)
        else:
            for shape in shapes:
                yield shape, shape.n_bytes


def _elements(shapes: tuple[Shape, ...]) -> int:
    total = 0
    for shape in shapes:
        count = 1
        for n in shape.dims:
            count *= n
        total += count
    return total


def _rows(one: Instruction, indices: Shape) -> int:
    """Return the number of slices that a gather reads or a scatter writes."""
    found = re.search(r"index_vector_dim=(\d+)", one.attributes)
    vector_dim = int(found[1]) if found else len(indices.dims)
    count = 1
    for n, size in enumerate(indices.dims):
        count *= size if n != vector_dim else 1
    return count
