"""``jaxrec doctor``."""

import json
from dataclasses import dataclass

from tyro.conf import Positional

from jaxrec.cli.arguments import parse

FINDING = 3  # exit status where something is wrong


@dataclass(frozen=True)
class Doctor:
    """Say whether a run is healthy, and if not, why and what to change."""

    path: Positional[str]
    """Run folder, finished, failed or going on; or embeddings from elsewhere: .npz with `user` and
    `item`, or a single matrix (.npz, .npy)."""
    data: str | None = None
    """What such embeddings were trained on; anything that --data of train takes."""
    json: bool = False
    """Print JSON."""


def doctor(args: list[str]) -> int:
    """Say why embeddings collapse or training stalls; exit status 3 where something is wrong."""
    made = parse(Doctor, args, "jaxrec doctor")
    from jaxrec.diagnosis.diagnose import diagnose

    found = diagnose(made.path, made.data)
    if made.json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print("\n".join(words(found)))
    return 0 if found.healthy else FINDING


def words(found) -> list[str]:
    """A diagnosis as people read it."""
    if found.healthy:
        return [f"{found.of}: healthy; nothing that the doctor knows of is wrong", *found.notes]
    count = "1 finding" if len(found.findings) == 1 else f"{len(found.findings)} findings"
    lines = [f"{found.of}: {count}, the likeliest cause first"]
    for finding in found.findings:
        lines += ["", *finding.lines()]
    return [*lines, *([""] if found.notes else []), *found.notes]
