"""Import jaxrec once, and fork a child process for each command, to save the time of imports.

The server reads one request per line from stdin (JSON: args, cwd, env, out, err, reports, quick).
It answers each with two lines: the child's id when the child starts, and the exit status when the
child ends. The status is negative if a signal ended the child. Each child has separate signal
handlers, threads, locks and an XLA backend, because none of these exists before the fork.
"""

import json
import os
import runpy
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import matplotlib.figure

import jaxrec.cli
import jaxrec.embedding
import jaxrec.evaluation.baselines
import jaxrec.list_files
import jaxrec.recommend
import jaxrec.reporting.page
import jaxrec.training.results
import jaxrec.training.run


def serve() -> dict[str, Any]:
    """Fork a child for each request, and return the request in the child."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            return request
        os.write(1, f"{child}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, f"{status}\n".encode())
    sys.exit()


def become(request: dict[str, Any]) -> None:
    """Run as `python ARGS...`, with the folder and the output files that the request names."""
    for number, name, mode in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT),
        (2, request["err"], os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(name, mode)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    if request["quick"]:
        jax.config.update("jax_disable_most_optimizations", True)
    if not request["reports"]:
        jaxrec.training.results.can_report = lambda: False
    first, *rest = request["args"]
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # JAX has no threads yet
    assert matplotlib.figure
    become(serve())
