"""``jaxrec doctor``: diagnose a run or embeddings."""

import json
from dataclasses import dataclass

from tyro.conf import Positional

from jaxrec.cli.arguments import parse
from jaxrec.cli.console import print_lines

FINDING = 3  # the exit status if the doctor has a finding


@dataclass(frozen=True)
class Doctor:
    """Say whether a run is healthy, and if not, the likely causes and what to change."""

    path: Positional[str]
    """Run folder, whether finished, failed or still training; or a file of embeddings: .npz with
    arrays `user` and `item`, or a single matrix (.npz, .npy)."""
    data: str | None = None
    """Data that a file of embeddings was trained on, in any form that --data of `jaxrec train`
    accepts."""
    json: bool = False
    """Print the diagnosis as JSON."""


def doctor(args: list[str]) -> int:
    """Explain why embeddings collapse or training stalls; exit status 3 if a problem is found."""
    parsed = parse(Doctor, args, "jaxrec doctor")
    from jaxrec.diagnosis.diagnose import diagnose

    found = diagnose(parsed.path, parsed.data)
    if parsed.json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print_lines(words(found))
    return 0 if found.healthy else FINDING


def words(found) -> list[str]:
    """Format a diagnosis for the console."""
    if found.healthy:
        return [f"{found.of}: healthy; the doctor found no problem", *found.notes]
    count = "1 finding" if len(found.findings) == 1 else f"{len(found.findings)} findings"
    lines = [f"{found.of}: {count}, the likeliest cause first"]
    for finding in found.findings:
        lines += ["", *finding.lines()]
    return [*lines, *([""] if found.notes else []), *found.notes]
