"""Faults of a file, counted by kind."""

from pathlib import Path

from jaxrec.errors import InputError

_NAMED_LINES = 5


class Faults:
    """What is wrong, counted by kind, with the numbers of the first lines of each.

    Args:
      strict: raise InputError at the first one instead.
    """

    def __init__(self, path: Path, strict: bool) -> None:
        self._path, self._strict = path, strict
        self._found: dict[str, tuple[int, list[int]]] = {}
        self.first: str | None = None

    def add(self, kind: str, *lines: int, count: int | None = None, usable: bool = False) -> None:
        """Count a fault of each line; ``usable`` ones are not refused.

        Args:
          count: how many there are, where ``lines`` are the first ones only.
        """
        if self._strict and not usable:
            raise InputError(f"{self._path}:{lines[0]}: {kind}; fix or drop the line")
        self.first = self.first or f"{self._path}:{lines[0]}: {kind}"
        before, named = self._found.get(kind, (0, []))
        named += lines[: _NAMED_LINES + 1 - len(named)]
        self._found[kind] = before + (len(lines) if count is None else count), named

    def count(self) -> int:
        """How many there are over all."""
        return sum(count for count, _ in self._found.values())

    def notes(self) -> dict[str, int]:
        """Such as ``{"not a product, at line 3, 8": 2}``."""
        told = {}
        for kind, (count, lines) in self._found.items():
            more = ", ..." if len(lines) > _NAMED_LINES else ""
            listed = ", ".join(map(str, lines[:_NAMED_LINES]))
            told[f"{kind}, at line {listed}{more}"] = count
        return told
