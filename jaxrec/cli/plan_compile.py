"""``jaxrec plan --compile``: compile a run's programs for another machine."""

import dataclasses
import json
import re
import sys
from typing import Any

from jaxrec import plan as plans
from jaxrec.aot.targets import DEVICES, Target, target
from jaxrec.errors import InputError

_MOST = 10**12
"""Largest number of users, items or pairs that may be given."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
_SIZES = ("users", "items", "edges")
_HELP = f"""\
usage: jaxrec plan --compile TARGET [PRESET] [options of `jaxrec train`]
                   [--data PATH | --users N --items N --edges N]
                   [--programs step embed rank start pagerank together]
                   [--json] [--keep FOLDER]

Compiles the programs of a run for TARGET, which this machine need not have, and prints their
memory, traffic and kernels. TARGET is one of
{", ".join(device.name for device in DEVICES.values())},
or several of them: 8xH200, 2x8xH200, v5e-16, v5e:4x8. Without data or sizes, the preset's own data
is used. N may end in K, M or B. --keep writes the text of the compiled programs to FOLDER.
Needs an extra: pip install 'jaxrec[compile]'
"""


def number_of(text: str, name: str) -> int:
    """Parse a number that may end in K, M or B."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB]?)", text.upper())
    number = 0.0 if found is None else float(found[1]) * _UNITS[found[2]]
    if not 1 <= number <= _MOST:
        raise InputError(f"--{name} {text}: give a number from 1 to {_MOST:,}, such as 100M")
    return round(number)


def compiled(args: list[str]) -> None:
    """Compile a run's programs for another machine, and print their memory and traffic.

    Raises:
      InputError: an option is wrong, a program does not compile, or a program does not fit the
        target; in the last case the message advises on a target that would fit.
    """
    own, rest = _own(args)
    name = own["compile"][0] if own["compile"] else ""
    if name in ("", "help", "-h", "--help") or "--help" in rest or "-h" in rest:
        print(_HELP, end="")
        return
    to = target(name)
    given = [name for name in _SIZES if own.get(name)]
    if given and len(given) < len(_SIZES):
        missing = " and ".join(f"--{name}" for name in _SIZES if name not in given)
        raise InputError(f"--users, --items and --edges must be given together; add {missing}")
    sizes = None
    if given:
        users, items, edges = (number_of(own[name][0], name) for name in _SIZES)
        sizes = users, items, edges
    if sizes and any(arg.partition("=")[0] == "--data" for arg in rest):
        raise InputError("give either --data PATH or --users, --items and --edges, not both")
    from jaxrec import config as configs
    from jaxrec.aot.parent import compile_for
    from jaxrec.cli.train import configured

    config = _with_mesh(configured(rest).config, to)
    programs = tuple(own.get("programs") or ["step"])
    keep = (own.get("keep") or [None])[0]
    values = configs.to_dict(config)
    results = compile_for(to, values, sizes=sizes, programs=programs, keep=keep)
    advice = [_smallest(to, result) for result in results]
    if "json" in own:
        shown = [
            result | {"fits": smallest is None}
            for result, smallest in zip(results, advice, strict=True)
        ]
        facts = {"target": to.name, "preset": config.preset, "programs": shown}
        facts |= {"memory": to.device.memory, "smallest": next(filter(None, advice), None)}
        print(json.dumps(facts))
    else:
        for result in results:
            print("\n".join(lines(config.preset, to, result)))
    for result, smallest in zip(results, advice, strict=True):
        if smallest is not None:
            raise InputError(
                f"the program {result['program']!r} does not fit {to.name}: it needs "
                f"{plans.shown(result['memory'])} per device, but {to.device.name} has "
                f"{plans.shown(to.device.memory)}, of which a tenth is kept free; {smallest}"
            )


def _own(args: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Split ``args`` into the values of this command's own options, by name, and other arguments.

    Raises:
      InputError: one of this command's own options has no value.
    """
    names, many = {"compile", *_SIZES, "keep"}, {"programs"}
    own: dict[str, list[str]] = {}
    rest: list[str] = []
    taking, left = "", 0
    for arg in args:
        option, equals, value = arg.partition("=")
        name = option.removeprefix("--")
        if option.startswith("--") and (name in names | many or option == "--json"):
            own[name] = [value] if equals else []
            taking = name if not equals and name != "json" else ""
            left = 1 if name in names else len(args)
        elif taking and left and not arg.startswith("-"):
            own[taking].append(arg)
            left -= 1
        else:
            rest.append(arg)
            taking = ""
    for name, values in own.items():
        if not values and name not in ("json", "compile"):
            raise InputError(
                f"--{name} needs a value; `jaxrec plan --compile help` shows the options"
            )
    return own, rest


def _with_mesh(config: Any, to: Target) -> Any:
    """Return the configuration with a mesh of the target's devices, if it has no mesh yet.

    Raises:
      InputError: the configuration has a mesh of another size.
    """
    if to.devices == 1 or config.mesh.devices == to.devices:
        return config
    if config.mesh.devices > 1:
        raise InputError(
            f"--mesh.data {config.mesh.data} x --mesh.table {config.mesh.table} does not match the "
            f"{to.devices} devices of {to.name}; leave out both options, or give a target with as "
            "many devices as the mesh"
        )
    print(f"mesh.table is set to {to.devices}, the devices of {to.name}", file=sys.stderr)
    return dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, table=to.devices))


def _smallest(to: Target, result: dict[str, Any]) -> str | None:
    """Return None if the program fits the target ``to``, else advice on what would fit."""
    if plans.fits(result["memory"], to.device.memory):
        return None
    name, memory = to.device.name, to.device.memory
    parts, devices = result["memory"], to.devices
    if result["planned"] is None or result["program"] != "step":
        return "use a device with more memory, or a smaller --model.dim"
    while devices < 256:
        devices *= 2
        parts = parts / 2
        if plans.fits(round(parts), memory):
            try:
                return f"{to.sized(devices).name} would fit if all its arrays can be sharded"
            except InputError:
                break
    return f"no number of {name} up to 256 would fit"


def lines(preset: str, to: Target, result: dict[str, Any]) -> list[str]:
    """Format the result of a compilation for the console."""
    reading, shown = result["reading"], plans.shown
    planned = result["planned"]
    estimate = "" if planned is None else f" (plan: {shown(sum(planned.values()))})"
    users, items, edges = result["sizes"]
    head = f"{preset}, {users:,} users, {items:,} items, {edges:,} pairs: "
    if result["program"] != "step":
        head += f"the program {result['program']!r} "
    head += f"compiles for {to.name} in {result['seconds']:.0f} s"
    unit = "step" if result["program"] == "step" else "call"
    used = result["memory"] / to.device.memory
    text = [
        head,
        f"  memory of a device: {shown(result['memory'])} of {shown(to.device.memory)} "
        f"({used:.1%}){estimate}",
        f"  a {unit} reads and writes {shown(reading['n_bytes'])}, which takes at least "
        f"{1e3 * seconds(to, reading):.3g} ms; {_launches(reading)}",
    ]
    if to.device.vendor == "cuda":
        text.append(f"  scatters with atomic additions: {reading['atomics']}")
    received = sum(reading["collectives"].values())
    if received:
        kinds = ", ".join(f"{kind} {shown(n)}" for kind, n in reading["collectives"].items())
        text.append(f"  received from other devices per {unit}: {shown(received)} ({kinds})")
    if reading["transfers"]:
        text.append(f"  transfers to or from the host per {unit}: {reading['transfers']}")
    if reading["float64"]:
        text.append("  some arrays have 64-bit floating-point numbers")
    if result["program"] == "step":
        in_place = "in place" if result["alias"] >= result["state"] else "by copying"
        text.append(f"  the state of {shown(result['state'])} is updated {in_place}")
    return text


def _launches(reading: dict[str, Any]) -> str:
    usual, most = reading["usual_kernels"], reading["kernels"]
    kernels = f"{usual:,} kernels" + (f" (at most {most:,})" if most > usual else "")
    loops = f"{reading['loops']} inner loops, {reading['open_loops']} with data-dependent length"
    return f"{kernels}; {loops if reading['loops'] else 'no inner loop'}"


def seconds(to: Target, reading: dict[str, Any]) -> float:
    """Return a lower bound on a program's run time, in seconds.

    The bound is the time to move the program's bytes at full memory bandwidth. On a TPU, it is the
    time to process gathered and scattered rows one after another, if that is longer.
    """
    n_bytes = reading["n_bytes"] - reading["fast"]
    rows = reading["rows"] * to.device.row_cycles / (to.device.clock * 1e9)
    return max(n_bytes / to.device.bandwidth, rows)
