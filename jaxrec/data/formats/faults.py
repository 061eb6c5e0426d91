"""Counts the faults of a file by kind."""

from pathlib import Path

from jaxrec.errors import InputError

_NAMED_LINES = 5


class Faults:
    """The faults of a file: for each kind a count, and the numbers of the first faulty lines.

    Args:
      strict: raise InputError at the first fault instead of counting.
    """

    def __init__(self, path: Path, strict: bool) -> None:
        self._path, self._strict = path, strict
        self._by_kind: dict[str, tuple[int, list[int]]] = {}
        self.first: str | None = None

    def add(self, kind: str, *lines: int, count: int | None = None, usable: bool = False) -> None:
        """Count a fault for each line; if strict, raise InputError unless the fault is ``usable``.

        Args:
          count: the number of faults, if ``lines`` lists only the first faulty lines.
          usable: whether the rest of the line can be used.
        """
        if self._strict and not usable:
            raise InputError(f"{self._path}:{lines[0]}: {kind}; fix or drop the line")
        self.first = self.first or f"{self._path}:{lines[0]}: {kind}"
        before, named = self._by_kind.get(kind, (0, []))
        named += lines[: _NAMED_LINES + 1 - len(named)]
        self._by_kind[kind] = before + (len(lines) if count is None else count), named

    def count(self) -> int:
        """Return the number of faults of all kinds."""
        return sum(count for count, _ in self._by_kind.values())

    def notes(self) -> dict[str, int]:
        """Return counts by kind and first lines: ``{"not a product, at line 3, 8": 2}``."""
        notes = {}
        for kind, (count, lines) in self._by_kind.items():
            more = ", ..." if len(lines) > _NAMED_LINES else ""
            listed = ", ".join(map(str, lines[:_NAMED_LINES]))
            notes[f"{kind}, at line {listed}{more}"] = count
        return notes
