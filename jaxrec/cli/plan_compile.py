"""``jaxrec plan --compile``: a run's programs compiled for a machine that is not here."""

import dataclasses
import json
import re
import sys
from typing import Any

from jaxrec import plan as plans
from jaxrec.aot.targets import DEVICES, Target, target
from jaxrec.errors import InputError

_MOST = 10**12
"""Users, items and pairs that are planned for."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
_SIZES = ("users", "items", "edges")
_HELP = f"""\
usage: jaxrec plan --compile TARGET [PRESET] [options of `jaxrec train`]
                   [--data PATH | --users N --items N --edges N]
                   [--programs step embed rank start pagerank] [--json] [--keep FOLDER]

Compiles the programs of a run for TARGET, which need not be here, and says what comes out:
memory, bytes moved, kernels. A TARGET is one of
{", ".join(of.name for of in DEVICES.values())},
or several: 8xH200, 2x8xH200, v5e-16, v5e:4x8. Without data or sizes the preset's own data is
taken. N may have K, M or B behind it. --keep leaves the compiled programs' text in FOLDER.
Needs the extra: pip install 'jaxrec[compile]'
"""


def number_of(text: str, name: str) -> int:
    """A number with K, M or B behind it."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB]?)", text.upper())
    number = 0.0 if found is None else float(found[1]) * _UNITS[found[2]]
    if not 1 <= number <= _MOST:
        raise InputError(f"--{name} {text}: a number of 1 to {_MOST:,} is needed, such as 100M")
    return round(number)


def compiled(args: list[str]) -> None:
    """Compile for a machine that is not here, and say what comes out.

    Raises:
      InputError: wrong options, what does not compile, or what does not fit, with the smallest
        target that would do.
    """
    own, rest = _own(args)
    name = own["compile"][0] if own["compile"] else ""
    if name in ("", "help", "-h", "--help") or "--help" in rest or "-h" in rest:
        print(_HELP, end="")
        return
    to = target(name)
    given = [of for of in _SIZES if own.get(of)]
    if given and len(given) < len(_SIZES):
        raise InputError(f"--users, --items and --edges go together; --{given[0]} is given")
    sizes = None
    if given:
        users, items, edges = (number_of(own[of][0], of) for of in _SIZES)
        sizes = users, items, edges
    if sizes and any(arg.partition("=")[0] == "--data" for arg in rest):
        raise InputError("give --data PATH or sizes, not both")
    from jaxrec import config as configs
    from jaxrec.aot.parent import compile_for
    from jaxrec.cli.train import configured

    config = configured(rest).config
    config = _on(config, to)
    programs = tuple(own.get("programs") or ["step"])
    keep = (own.get("keep") or [None])[0]
    values = configs.to_dict(config)
    found = compile_for(to, values, sizes=sizes, programs=programs, keep=keep)
    smallest = [_smallest(to, one) for one in found]
    if "json" in own:
        shown = [one | {"fits": small is None} for one, small in zip(found, smallest, strict=True)]
        facts = {"target": to.name, "preset": config.preset, "programs": shown}
        facts |= {"memory": to.device.memory, "smallest": next(filter(None, smallest), None)}
        print(json.dumps(facts))
    else:
        for one in found:
            print("\n".join(lines(config.preset, to, one)))
    for one, small in zip(found, smallest, strict=True):
        if small is not None:
            has = f"{plans.shown(one['memory'])} a device, and {to.device.name} has "
            raise InputError(
                f"the program {one['program']!r} does not fit {to.name}: {has}"
                f"{plans.shown(to.device.memory)}, of which a tenth is kept free; {small}"
            )


def _own(args: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The options of this command by name, and the others."""
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
            raise InputError(f"--{name} needs a value; `jaxrec plan --compile help`")
    return own, rest


def _on(config: Any, to: Target) -> Any:
    """The configuration on as many devices: parts of the table, where it does not say otherwise.

    Raises:
      InputError: the model is not there on a mesh, or the mesh is not the target's.
    """
    if to.devices == 1 or config.mesh.devices == to.devices:
        return config
    if config.mesh.devices > 1:
        raise InputError(
            f"--mesh.data {config.mesh.data} x --mesh.table {config.mesh.table} is not the "
            f"{to.devices} devices of {to.name}"
        )
    print(f"mesh.table is {to.devices}: the devices of {to.name}", file=sys.stderr)
    return dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, table=to.devices))


def _smallest(to: Target, one: dict[str, Any]) -> str | None:
    """What to say of the smallest target that fits; None where this one does."""
    if plans.fits(one["memory"], to.device.memory):
        return None
    name, memory = to.device.name, to.device.memory
    parts, devices = one["memory"], to.devices
    if one["planned"] is None or one["program"] != "step":
        return "no smaller form of it is known"
    while devices < 256:
        devices *= 2
        parts = parts / 2
        if plans.fits(round(parts), memory):
            try:
                return f"{to.sized(devices).name} would do, as far as all of it is cut in parts"
            except InputError:
                break
    return f"no number of {name} up to 256 would do"


def lines(preset: str, to: Target, one: dict[str, Any]) -> list[str]:
    """What came out, for people."""
    read, shown = one["reading"], plans.shown
    planned = "" if one["planned"] is None else f" (plan: {shown(sum(one['planned'].values()))})"
    users, items, edges = one["sizes"]
    head = f"{preset}, {users:,} users, {items:,} items, {edges:,} pairs: "
    if one["program"] != "step":
        head += f"the program {one['program']!r} "
    head += f"compiles for {to.name} in {one['seconds']:.0f} s"
    each = "step" if one["program"] == "step" else "call"
    used = one["memory"] / to.device.memory
    found = [
        head,
        f"  memory of a device: {shown(one['memory'])} of {shown(to.device.memory)} "
        f"({used:.1%}){planned}",
        f"  a {each} reads and writes {shown(read['n_bytes'])}, at least "
        f"{1e3 * seconds(to, read):.3g} ms; {_launches(read)}",
    ]
    if to.device.vendor == "cuda":
        found.append(f"  scatters that add by atomics: {read['atomics']}")
    moved = sum(read["collectives"].values())
    if moved:
        kinds = ", ".join(f"{kind} {shown(n)}" for kind, n in read["collectives"].items())
        found.append(f"  from other devices a {each}: {shown(moved)} ({kinds})")
    if read["transfers"]:
        found.append(f"  transfers to or from the host in a {each}: {read['transfers']}")
    if read["float64"]:
        found.append("  numbers of 64 bits are among its arrays")
    if one["program"] == "step":
        kept = "in place" if one["alias"] >= one["state"] else "copied"
        found.append(f"  the state of {shown(one['state'])} is updated {kept}")
    return found


def _launches(read: dict[str, Any]) -> str:
    usual, most = read["usual_kernels"], read["kernels"]
    kernels = f"{usual:,} kernels" + (f", {most:,} at the most" if most > usual else "")
    loops = f"{read['loops']} loops inside, {read['open_loops']} of a length that the data decides"
    return f"{kernels}; {loops if read['loops'] else 'no loop inside'}"


def seconds(to: Target, read: dict[str, Any]) -> float:
    """What a program takes at the least: its bytes at the memory's full bandwidth, and on a TPU its
    rows one after another."""
    n_bytes = read["n_bytes"] - read["fast"]
    rows = read["rows"] * to.device.row_cycles / (to.device.clock * 1e9)
    return max(n_bytes / to.device.bandwidth, rows)
