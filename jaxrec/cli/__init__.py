"""The command line: the table of commands, and the function that runs one of them."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from jaxrec import presets, registry
from jaxrec.aot import hidden_plugins
from jaxrec.cli.compare import compare
from jaxrec.cli.completion import asked_shell, script
from jaxrec.cli.data import data
from jaxrec.cli.doctor import doctor
from jaxrec.cli.guide import guide
from jaxrec.cli.plan import plan
from jaxrec.cli.recommend import recommend
from jaxrec.cli.run_outputs import embed, evaluate, export, report, similar
from jaxrec.cli.serve import serve
from jaxrec.cli.sweep import sweep
from jaxrec.cli.train import refit, resume, train
from jaxrec.errors import InputError, JaxrecError, RunError, nearest


def _asked_for_help(args: list[str], name: str, command: Callable[[list[str]], Any]) -> bool:
    """Print the help of a command without options if ``args`` asks for it; return whether it does.

    Raises:
      InputError: ``args`` holds anything else.
    """
    if args in (["-h"], ["--help"]):
        print(f"usage: jaxrec {name}\n\n{command.__doc__}")
        return True
    if args:
        raise InputError(f"`jaxrec {name}` takes no arguments; leave out {' '.join(args)}")
    return False


def list_presets(args: list[str]) -> None:
    """List the presets, each with a description."""
    if _asked_for_help(args, "presets", list_presets):
        return
    for name, make in presets.all_presets().items():
        lines = [line.strip() for line in (make.__doc__ or "").strip().splitlines()]
        print(f"{name}\n    " + "\n    ".join(line for line in lines if line))


def env(args: list[str]) -> int | None:
    """Print versions and devices, for bug reports; --check also tests the kernels on the device."""
    with_check = args == ["--check"]
    if not with_check and _asked_for_help(args, "env", env):
        return None
    import jax

    from jaxrec.graph.spmm import default_kernel
    from jaxrec.training.environment import versions

    for name, version in versions().items():
        print(f"{name:18} {version}")
    devices = jax.devices()
    print(f"{'devices':18} {len(devices)} x {devices[0].device_kind} ({devices[0].platform})")
    print(f"{'kernel':18} {default_kernel()}")
    if not with_check:
        return None
    from jaxrec.training.self_check import check

    results = check()
    print("\n".join(result.line() for result in results))
    return int(not all(result.well for result in results))


def completion(args: list[str]) -> None:
    """Print a script that completes commands and options in bash, zsh or fish."""
    print(script(asked_shell(args), _commands()), end="")


COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "train": train,
    "resume": resume,
    "sweep": sweep,
    "refit": refit,
    "evaluate": evaluate,
    "recommend": recommend,
    "similar": similar,
    "serve": serve,
    "embed": embed,
    "export": export,
    "report": report,
    "compare": compare,
    "doctor": doctor,
    "data": data,
    "plan": plan,
    "presets": list_presets,
    "guide": guide,
    "env": env,
    "completion": completion,
}

registry.COMMANDS.builtin = tuple(COMMANDS)


def _commands() -> dict[str, Callable[[list[str]], int | None]]:
    """Return all commands by name, user-registered ones last."""
    return COMMANDS | registry.COMMANDS.registered()


def _usage() -> str:
    lines = ["usage: jaxrec COMMAND [options]", "", "commands:"]
    for name, command in _commands().items():
        lines.append(f"  {name:11}{(command.__doc__ or '').splitlines()[0]}")
    lines += ["", "`jaxrec COMMAND --help` lists a command's options; --debug shows tracebacks;"]
    lines += ["--plugin MODULE imports your module that registers models, losses, metrics, ..."]
    return "\n".join(lines)


def _plugins(args: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments without ``--plugin NAME``, and the names of all plugins.

    Raises:
      InputError: ``--plugin`` has no name.
    """
    others, names = [], []
    remaining = iter(args)
    for arg in remaining:
        option, equals, name = arg.partition("=")
        if option != "--plugin":
            others.append(arg)
            continue
        name = name if equals else next(remaining, "")
        if not name or name.startswith("-"):
            raise InputError("--plugin needs the name of a module or of an entry point")
        names.append(name)
    return others, names


def _run(args: list[str]) -> int:
    args, plugins = _plugins(args)
    registry.load_plugins(plugins)
    if not args or args[0] in ("-h", "--help"):
        print(_usage())
        return 0 if args else 2
    if args[0] == "--version":
        from jaxrec import __version__

        print(f"jaxrec {__version__}")
        return 0
    commands = _commands()
    if args[0] not in commands:
        hint = nearest(args[0], commands)
        raise InputError(f"unknown command {args[0]!r}{hint}; `jaxrec --help` lists the commands")
    return commands[args[0]](args[1:]) or 0


_TOO_LARGE = "jaxrec: out of memory; a smaller --model.dim or --train.batch-size may fit"


def main() -> None:
    """Run a command and exit: 0 on success, 1 for a failed run, 2 for bad usage or input."""
    args = sys.argv[1:]
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    if not debug:
        # Print no tracebacks. Errors of this thread are reported below. Other threads fail only
        # after a failed write, which has been reported already.
        sys.excepthook = lambda kind, error, trace: None
        sys.unraisablehook = lambda unraisable: None
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    hidden_plugins.leave_out()
    try:
        status = _run(args)
    except JaxrecError as e:
        if debug:
            raise
        print(f"jaxrec: {e}", file=sys.stderr)
        status = e.exit_status
        if isinstance(e, RunError):
            # Exit at once; otherwise writer threads print tracebacks as the interpreter shuts down.
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
    except MemoryError:
        if debug:
            raise
        print(_TOO_LARGE, file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        if debug:
            raise
        status = 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of the output is gone. Redirect stdout, or Python fails again on closing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as e:
        if debug:
            raise
        if "RESOURCE_EXHAUSTED" in str(e):
            print(_TOO_LARGE, file=sys.stderr)
            sys.exit(1)
        first = (str(e).strip().splitlines() or [""])[0][:300]
        print(f"jaxrec: {type(e).__name__}: {first}; --debug shows where", file=sys.stderr)
        status = 1
    sys.exit(status)
