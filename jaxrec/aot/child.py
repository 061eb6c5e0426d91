"""Compile the programs of a request: ``python -m jaxrec.aot.child``.

The request is a JSON object on stdin with the keys config (as in config.json), sizes ([U, I, E] or
null), data (a path or null), target, programs, and keep (a folder for the programs' texts, or
null). Each program's result is printed as a JSON line.
"""

import json
import sys
from typing import Any

from jaxrec.errors import JaxrecError


def run(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Compile the programs of a request, and print and return their results."""
    from jaxrec.aot import compiler, programs
    from jaxrec.aot.targets import target
    from jaxrec.config import from_dict
    from jaxrec.platforms import compiled_for

    to, config = target(request["target"]), from_dict(request["config"])
    devices, results = compiler.devices_of(to), []
    with compiled_for(to.device.platform):
        if request.get("sizes"):
            problem = programs.of_sizes(config, programs.Counts(*request["sizes"]), devices)
        else:
            problem = programs.of_data(config, request.get("data") or config.data, devices)
        for name in request.get("programs", ["step"]):
            program = programs.placed(programs.program(name, problem, to), problem, devices)
            keep = request.get("keep")
            text = None if keep is None else f"{keep}/{config.preset}-{name}-{to.name}.hlo"
            result = compiler.compiled(program, to, text).to_dict()
            result |= {"sizes": list(problem.counts), "state": programs.state_bytes(problem)}
            result["planned"] = programs.planned(problem) if name == "step" else None
            results.append(result)
            print(json.dumps(result), flush=True)
    return results


def main() -> int:
    """Run the request on stdin, printing an error as a last line, and return the exit status."""
    try:
        run(json.load(sys.stdin))
    except JaxrecError as e:
        print(json.dumps({"error": str(e)}), flush=True)
        return e.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
