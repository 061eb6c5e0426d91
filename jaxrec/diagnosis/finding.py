"""Findings of the doctor, with suggested changes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from jaxrec.config import Config


@dataclass(frozen=True)
class Finding:
    """A problem of a run or of embeddings.

    Attributes:
      name: stable identifier.
      title: the problem in one line.
      evidence: the figures that show the problem.
      cause: the most likely cause.
      changes: suggested changes of the configuration, the likeliest first.
    """

    name: str
    title: str
    evidence: tuple[str, ...]
    cause: str
    changes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return asdict(self) | {"evidence": list(self.evidence), "changes": list(self.changes)}

    def lines(self) -> list[str]:
        """Format the finding as lines for the console."""
        return [
            f"{self.name}: {self.title}",
            *(f"  seen    {what}" for what in self.evidence),
            f"  cause   {self.cause}",
            *(f"  change  {what}" for what in self.changes),
        ]


Change = str | tuple[str, Callable[[Config], bool]]
"""A suggested change, with a condition if it applies only to some configurations."""


def changes(config: Config | None, *offered: Change) -> tuple[str, ...]:
    """Select the changes that apply to a configuration.

    Without a configuration, as for a file of embeddings, conditional changes are left out.
    """
    found = []
    for change in offered:
        text, applies = (change, None) if isinstance(change, str) else change
        if applies is None or (config is not None and applies(config)):
            found.append(text)
    return tuple(found)


def mistaken(name: str) -> Callable[[Config], bool]:
    """Return a function that tells whether a configuration makes mistake ``name`` on purpose."""
    return lambda config: name in config.mistakes
