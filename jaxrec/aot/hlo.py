"""What a compiled program does in a step, read from its text: launches, bytes, loops, transfers.

Bytes are counted here and not taken from XLA, whose count is empty for a GPU and for a TPU counts
whole tables for each gather. The rules:

* An instruction reads its operands and writes its result. Within a fusion an operand that is only
  gathered from (or sliced) is read at the gathered rows alone, an operand that is scattered into
  (or updated) is read and written at the updated rows alone, and what lies between is not memory.
* A gather reads its result's size and its indices; a scatter reads its updates and indices, and
  reads and writes as many rows of its operand. A custom call reads and writes all it is given.
* A loop counts as often as it runs where the compiler knows that, else once, and is told
  (``loops``). Of a conditional the costliest branch counts.
* Sizes are those of the shapes. What the padding of a TPU's tiles adds is in ``padded``.

So a program that gathers E rows of D numbers never counts below 4 E D bytes.
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
    """An array: its type, its dimensions, and the layout's text."""

    kind: str
    dims: tuple[int, ...]
    layout: str = ""

    @property
    def n_bytes(self) -> int:
        """Of the numbers alone."""
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
        """With what fills up the tiles of the layout."""
        found = _TILE.search(self.layout)
        if found is None or not self.dims:
            return self.n_bytes
        order = [int(n) for n in self.layout.split(":")[0].split(",") if n.strip().isdigit()]
        if len(order) != len(self.dims):
            return self.n_bytes
        tile = [int(n) for n in found[1].split(",")]
        dims = [self.dims[n] for n in order]  # minor first
        for n, side in enumerate(reversed(tile)):
            if n < len(dims):
                dims[n] = -(-dims[n] // side) * side
        count = 1
        for n in dims:
            count *= n
        return count * max(Shape(self.kind, (8,)).n_bytes, 1) // 8

    @property
    def space(self) -> int:
        """The memory that it lies in: 0 the device's own, 1 a TPU's VMEM, 5 the host's."""
        found = re.search(r"S\((\d+)\)", self.layout)
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Instruction:
    name: str
    shapes: tuple[Shape, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    root: bool

    def called(self, key: str) -> tuple[str, ...]:
        """Computations that an attribute names."""
        found = re.search(rf"\b{key}=(?:%([\w.\-]+)|\{{([^}}]*)\}})", self.attributes)
        if found is None:
            return ()
        return (found[1],) if found[1] else tuple(_NAME.findall(found[2]))

    @property
    def trips(self) -> int | None:
        """How often a loop runs, where the compiler knows."""
        found = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', self.attributes)
        return int(found[1]) if found else None

    @property
    def custom(self) -> str:
        """The target of a custom call."""
        found = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return found[1] if found else ""


@dataclass(frozen=True)
class Computation:
    name: str
    instructions: dict[str, Instruction]
    parameters: tuple[str, ...]
    root: str

    def users(self, name: str) -> list[Instruction]:
        return [one for one in self.instructions.values() if name in one.operands]


@dataclass(frozen=True)
class Module:
    """A program's text, parsed."""

    computations: dict[str, Computation]
    entry: str
    aliases: int
    """Outputs that take the buffers of arguments."""


def parse(text: str) -> Module:
    """Parse a program as ``compiled.as_text()`` prints it.

    Raises:
      ValueError: it is no such text.
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
    made: dict[str, Instruction] = {}
    numbered: dict[int, str] = {}
    root = ""
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            continue
        one = _instruction(found[2], found[3], bool(found[1]))
        made[one.name] = one
        root = one.name if one.root else root
        if one.opcode == "parameter":
            numbered[int(re.search(r"parameter\((\d+)\)", found[3])[1])] = one.name  # type: ignore[index]
    return Computation(name, made, tuple(numbered[n] for n in sorted(numbered)), root)


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
    """Where the bracket that begins a text is closed."""
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return at
    return len(text) - 1


@dataclass
class Reading:
    """Of one step of a program, or of a whole one without a loop of steps.

    Attributes:
      launches: by kind ("fusion", "sort", "copy", "custom-call", "scatter" ...), conditionals at
        their costliest branch. A sort of n numbers on a GPU is more than one kernel.
      usual: as many, conditionals at their cheapest branch.
      kernels: their sum without copies; ``usual_kernels`` likewise.
      n_bytes: read and written, see the module.
      fast: of these, in a TPU's own fast memory.
      padded: with the padding of a TPU's tiles.
      gathers, scatters: how many there are, inside of fusions too.
      rows: rows that gathers read and scatters add, one after another on a TPU.
      atomics: scatters that add up and do not promise distinct rows: atomics on a GPU.
      custom: targets of custom calls, counted.
      collectives: bytes of results by kind.
      transfers: to or from the host.
      loops: inner loops, and how many of them run for as long as the data asks.
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
        return sum(self.launches.values()) - self.launches["copy"]

    @property
    def usual_kernels(self) -> int:
        return sum(self.usual.values()) - self.usual["copy"]

    def add(self, other: "Reading", times: int = 1) -> None:
        """What another does, so many times; launches and counts of what stands in the text once."""
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
        """For JSON."""
        plain = {
            name: value for name, value in vars(self).items() if not isinstance(value, Counter)
        }
        counted = {
            name: dict(value) for name, value in vars(self).items() if isinstance(value, Counter)
        }
        kernels = {"kernels": self.kernels, "usual_kernels": self.usual_kernels}
        return kernels | plain | counted


def read(text: str, *, steps: bool = False) -> tuple[Reading, Module]:
    """The reading of a program, or of a step of one that is a loop of ``steps``."""
    module = parse(text)
    found = _Reader(module).computation(_step_body(module) if steps else module.entry)
    found.float64 = bool(re.search(r"\b(?:f64|c128)\[", text))
    return found, module


def _step_body(module: Module) -> str:
    """Name the body of the loop of steps: the only loop of the entry and of what it calls."""
    loops, waiting = [], [module.entry]
    while waiting:
        for one in module.computations[waiting.pop()].instructions.values():
            if one.opcode == "while":
                loops.append(one)
            elif one.opcode == "call":  # newer XLA wraps a loop in a computation of its own
                waiting += one.called("to_apply")
    return loops[0].called("body")[0] if len(loops) == 1 else module.entry


class _Reader:
    def __init__(self, module: Module) -> None:
        self._of = module.computations

    def computation(self, name: str) -> Reading:
        found = Reading()
        for one in self._of[name].instructions.values():
            self._instruction(self._of[name], one, found)
        return found

    def _instruction(self, where: Computation, one: Instruction, into: Reading) -> None:
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
                costliest = max(each, key=lambda of: of.n_bytes)
                costliest.usual = min(each, key=lambda of: of.n_bytes).usual
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
            return  # a TPU's scalar unit reckons it between two launches
        self._count_inside(where, one, into)
        for shape, n_bytes in self._traffic(where, one):
            into.n_bytes += n_bytes
            into.fast += n_bytes if shape.space == 1 else 0
            into.transfers += shape.space == 5
            into.padded += n_bytes * shape.padded // max(shape.n_bytes, 1)
        into.launches[base] += 1
        into.usual[base] += 1

    def _count_inside(self, where: Computation, one: Instruction, into: Reading) -> None:
        """Gathers, scatters and sorts of an instruction, inside of its fusion too."""
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
        """Whether a scatter combines old and new: not where it only writes the new."""
        combine = self._of[scatter.called("to_apply")[0]]
        root = combine.instructions[combine.root]
        return root.opcode not in ("parameter", "tuple")

    def _flat(
        self, where: Computation, one: Instruction
    ) -> Iterator[tuple[Computation, Instruction]]:
        if one.opcode == "fusion":
            inside = self._of[one.called("calls")[0]]
            for inner in inside.instructions.values():
                yield from self._flat(inside, inner)
        else:
            yield where, one

    def _traffic(self, where: Computation, one: Instruction) -> Iterator[tuple[Shape, int]]:
        """Shapes that an instruction reads and writes, and how many bytes of each."""
        given = [where.instructions[name].shapes for name in one.operands]
        if one.opcode == "fusion":
            inside = self._of[one.called("calls")[0]]
            for share, shapes in zip(self._read(inside), given, strict=True):
                yield shapes[0], round(share * sum(shape.n_bytes for shape in shapes))
            yield from self._written(inside, inside.root, one.shapes)
            return
        if one.opcode == "gather":
            yield given[0][0], one.shapes[0].n_bytes
            yield given[1][0], given[1][0].n_bytes
            yield one.shapes[0], one.shapes[0].n_bytes
            return
        if one.opcode == "scatter":
            n = (len(given) - 1) // 2
            for k in range(n):
                update = given[n + 1 + k][0]
                yield update, update.n_bytes
                yield one.shapes[k], 2 * update.n_bytes
            yield given[n][0], given[n][0].n_bytes
            return
        if one.opcode in ("dynamic-slice", "slice"):
            yield given[0][0], one.shapes[0].n_bytes
            yield one.shapes[0], one.shapes[0].n_bytes
            return
        if one.opcode == "dynamic-update-slice":
            yield given[1][0], given[1][0].n_bytes
            yield one.shapes[0], given[1][0].n_bytes
            return
        if one.opcode.endswith("-start"):
            for shape in one.shapes[:2]:  # operand and result; what else there is are contexts
                yield shape, min(shape.n_bytes, one.shapes[min(1, len(one.shapes) - 1)].n_bytes)
            return
        for shapes in given:
            for shape in shapes:
                yield shape, shape.n_bytes
        for shape in one.shapes:
            yield shape, shape.n_bytes

    def _read(self, inside: Computation, share: float = 1.0) -> list[float]:
        """How often over a fusion reads each of its operands to make a share of its result.

        What is gathered from is read row by row, also where it is made within the fusion: then all
        that it is made of is. What is used element by element is read once.
        """
        rows: dict[str, float] = dict.fromkeys(inside.instructions, 0.0)
        plain = rows | {inside.root: share}
        for one in reversed(inside.instructions.values()):
            needed = rows[one.name] + plain[one.name]
            if not needed or not one.operands:
                continue
            for name, part, by_row in self._needs(inside, one, needed):
                if by_row:
                    rows[name] += part
                else:
                    plain[name] = max(plain[name], part)
        return [rows[name] + plain[name] for name in inside.parameters]

    def _needs(
        self, inside: Computation, one: Instruction, needed: float
    ) -> Iterator[tuple[str, float, bool]]:
        """Of an instruction in a fusion, whose result is needed so many times over: its operands,
        how many times over each is needed, and whether row by row."""
        size = _elements(one.shapes)

        def times(name: str) -> float:
            return needed * size / max(_elements(inside.instructions[name].shapes), 1)

        first, others = one.operands[0], one.operands[1:]
        if one.opcode == "fusion":
            found = self._read(self._of[one.called("calls")[0]], needed)
            yield from (
                (name, part, part > 1) for name, part in zip(one.operands, found, strict=True)
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
                    of = inside.instructions[one.operands[n + 1 + k]].shapes
                    yield name, _elements(of) / max(_elements(one.shapes[k : k + 1]), 1), True
                else:
                    yield name, needed, False
        else:
            yield from ((name, needed, needed > 1) for name in one.operands)

    def _written(
        self, inside: Computation, root: str, shapes: tuple[Shape, ...]
    ) -> Iterator[tuple[Shape, int]]:
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
            made_here = inside.instructions[one.operands[0]].opcode not in ("parameter", *_MOVES)
            whole = sum(shape.n_bytes for shape in shapes)
            yield shapes[0], whole if made_here else min(update, whole)
        elif one.opcode == "dynamic-update-slice":
            yield shapes[0], inside.instructions[one.operands[1]].shapes[0].n_bytes
        elif one.opcode == "fusion":
            nested = self._of[one.called("calls")[0]]
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
    """How many slices a gather reads or a scatter writes."""
    found = re.search(r"index_vector_dim=(\d+)", one.attributes)
    at = int(found[1]) if found else len(indices.dims)
    count = 1
    for n, size in enumerate(indices.dims):
        count *= size if n != at else 1
    return count
