"""``python -m jaxrec.aot.child``: compiles what a request on stdin asks for, a JSON line a program.

A request is an object: config (as config.json), sizes [U, I, E] or null, data (a path or null),
target, programs, keep (a folder for the programs' texts, or null).
"""

import json
import sys
from typing import Any

from jaxrec.errors import JaxrecError


def run(request: dict[str, Any]) -> list[dict[str, Any]]:
    """What the compiled programs are, one after another."""
    from jaxrec.aot import compiler, programs
    from jaxrec.aot.targets import target
    from jaxrec.config import from_dict
    from jaxrec.platforms import compiled_for

    to, config = target(request["target"]), from_dict(request["config"])
    devices, found = compiler.devices_of(to), []
    with compiled_for(to.device.platform):
        if request.get("sizes"):
            problem = programs.of_sizes(config, programs.Counts(*request["sizes"]), devices)
        else:
            problem = programs.of_data(config, request.get("data") or config.data, devices)
        for name in request.get("programs", ["step"]):
            made = programs.placed(programs.program(name, problem, to), problem, devices)
            keep = request.get("keep")
            text = None if keep is None else f"{keep}/{config.preset}-{name}-{to.name}.hlo"
            one = compiler.compiled(made, to, text).to_dict()
            one |= {"sizes": list(problem.counts), "state": programs.state_bytes(problem)}
            one["planned"] = programs.planned(problem) if name == "step" else None
            found.append(one)
            print(json.dumps(one), flush=True)
    return found


def main() -> int:
    """Read a request, print lines; on failure a last line with the error. Returns the status."""
    try:
        run(json.load(sys.stdin))
    except JaxrecError as e:
        print(json.dumps({"error": str(e)}), flush=True)
        return e.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
