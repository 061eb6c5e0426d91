"""Run jaxrec in a process that signals itself at a chosen call of a function.

``python killer.py SIGNAL MODULE:NAME N ARGS...`` sends the signal at the N-th call of the function,
before the call runs. The signal and the process are real, but the moment does not depend on time.
"""

import importlib
import os
import signal
import sys


def install(number: int, target: str, nth: int) -> None:
    module, _, path = target.partition(":")
    owner = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    calls = 0

    def wrapped(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    install(getattr(signal, sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    sys.argv = ["jaxrec", *sys.argv[4:]]
    from jaxrec.cli import main

    main()
