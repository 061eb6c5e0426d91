"""What a finding is."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a run, or with embeddings.

    Attributes:
      name: short and stable, for machines.
      title: what is wrong, in a line.
      evidence: figures.
      cause: what most likely leads to them.
      changes: what to change in the configuration, the likeliest first.
    """

    name: str
    title: str
    evidence: tuple[str, ...]
    cause: str
    changes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"evidence": list(self.evidence), "changes": list(self.changes)}

    def lines(self) -> list[str]:
        """As people read it."""
        return [
            f"{self.name}: {self.title}",
            *(f"  seen    {what}" for what in self.evidence),
            f"  cause   {self.cause}",
            *(f"  change  {what}" for what in self.changes),
        ]
