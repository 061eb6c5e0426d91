"""The command line: sub-commands from typed dataclasses; heavy imports inside the functions."""

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
    """Of a command without arguments: whether --help was asked for, and given."""
    if args in (["-h"], ["--help"]):
        print(f"usage: jaxrec {name}\n\n{command.__doc__}")
        return True
    if args:
        raise InputError(f"`jaxrec {name}` takes no arguments")
    return False


def list_presets(args: list[str]) -> None:
    """List the presets with what to expect of them."""
    if _asked_for_help(args, "presets", list_presets):
        return
    for name, make in presets.all_presets().items():
        lines = [line.strip() for line in (make.__doc__ or "").strip().splitlines()]
        print(f"{name}\n    " + "\n    ".join(line for line in lines if line))


def env(args: list[str]) -> int | None:
    """Print versions and devices, for bug reports; with --check also whether the kernels work."""
    checked = args == ["--check"]
    if not checked and _asked_for_help(args, "env", env):
        return None
    import jax

    from jaxrec.graph.spmm import default_kernel
    from jaxrec.training.environment import versions

    for name, version in versions().items():
        print(f"{name:18} {version}")
    devices = jax.devices()
    print(f"{'devices':18} {len(devices)} x {devices[0].device_kind} ({devices[0].platform})")
    print(f"{'kernel':18} {default_kernel()}")
    if not checked:
        return None
    from jaxrec.training.self_check import check

    found = check()
    print("\n".join(one.line() for one in found))
    return int(not all(one.well for one in found))


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
    """By name all commands, those that users have registered last."""
    return COMMANDS | registry.COMMANDS.registered()


def _usage() -> str:
    lines = ["usage: jaxrec COMMAND [options]", "", "commands:"]
    for name, command in _commands().items():
        lines.append(f"  {name:11}{(command.__doc__ or '').splitlines()[0]}")
    lines += ["", "`jaxrec COMMAND --help` lists a command's options; --debug shows tracebacks;"]
    lines += ["--plugin MODULE imports what registers models, losses, negatives, metrics, formats."]
    return "\n".join(lines)


def _plugins(args: list[str]) -> tuple[list[str], list[str]]:
    """The arguments without each ``--plugin NAME``, and the names.

    Raises:
      InputError: an option without its name.
    """
    left, names = [], []
    rest = iter(args)
    for arg in rest:
        option, equals, name = arg.partition("=")
        if option != "--plugin":
            left.append(arg)
            continue
        name = name if equals else next(rest, "")
        if not name or name.startswith("-"):
            raise InputError("--plugin needs the name of a module, or of an entry point")
        names.append(name)
    return left, names


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
        raise InputError(f"no command {args[0]!r}{hint}; `jaxrec --help` lists them")
    return commands[args[0]](args[1:]) or 0


_TOO_LARGE = "jaxrec: out of memory; a smaller --model.dim or batch may fit"


def main() -> None:
    """Entry point: run a command and exit with the contract's status."""
    args = sys.argv[1:]
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    if not debug:
        # Errors of this thread are told below. What is left are callbacks of writers that gave up
        # after a failed write was told already.
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
            # Writers that still fail would print tracebacks while the interpreter shuts down.
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
        # The reader of our output went away; Python would complain again while it closes stdout.
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
