"""Programs compiled for accelerators that are not here: memory, bytes and kernels of presets.

Needs the extra `compile`. Nothing is timed: the figures are read from the compiled programs
(jaxrec/aot/hlo.py says how bytes are counted).
"""

import argparse
import dataclasses
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.common import record
from jaxrec import config as configs
from jaxrec import presets
from jaxrec.aot.parent import compile_for
from jaxrec.aot.targets import target
from jaxrec.cli.plan_compile import seconds
from jaxrec.config import Config
from jaxrec.errors import JaxrecError

GOWALLA = (29_858, 40_981, 810_128)
"""Numbers of users, items and train pairs of Gowalla."""
_PLUGINS = ("libtpu", "jax-cuda12-plugin", "nvidia-cuda-nvcc-cu12")


def trained() -> list[str]:
    """Return the names of all presets that have a training step."""
    found = {name: presets.get(name) for name in presets.PRESETS}
    return [
        name
        for name, config in found.items()
        if not config.model.kind.fitted and config.minutes is None
    ]


def sizes_of(config: Config) -> tuple[int, int, int] | None:
    """Return the sizes of Gowalla for presets that need its split, and None for others."""
    return GOWALLA if config.split.name == "given" else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["h200", "v5e"])
    parser.add_argument("--presets", nargs="+", default=trained())
    parser.add_argument("--programs", nargs="+", default=["step"])
    parser.add_argument("--data", help="by default a preset's own, or sizes if it needs Gowalla")
    parser.add_argument("--sizes", nargs=3, type=float, help="users, items, pairs instead of data")
    args = parser.parse_args()
    for name in args.targets:
        for preset in args.presets:
            one(name, preset, args)


def one(name: str, preset: str, args: Any) -> None:
    """Compile the programs of a preset for a target, and record a line for each."""
    to, config = target(name), presets.get(preset)
    if args.data:
        config = dataclasses.replace(config, data=args.data)
    if to.devices > 1:
        mesh = dataclasses.replace(config.mesh, table=to.devices)
        config = dataclasses.replace(config, mesh=mesh)
    sizes = None if args.data else sizes_of(config)
    if args.sizes:
        users, items, pairs = map(int, args.sizes)
        sizes = users, items, pairs
    extra = {"device": to.name, "target": to.name, "preset": preset, "versions": plugins()}
    command = f"python -m bench compiled --targets {name} --presets {preset}"
    if args.programs != ["step"]:
        command += f" --programs {' '.join(args.programs)}"
    if args.data:
        command += f" --data {Path(args.data).name}"
    if args.sizes and sizes:
        command += f" --sizes {' '.join(map(str, sizes))}"
    try:
        found = compile_for(to, configs.to_dict(config), sizes=sizes, programs=tuple(args.programs))
    except JaxrecError as e:
        record("compiled", preset, [0], "none", command, what="refused", said=str(e), **extra)
        return
    for made in found:
        read, planned = made.pop("reading"), made["planned"]
        made |= {"floor_ms": 1e3 * seconds(to, read)}
        made |= {"planned": None if planned is None else sum(planned.values())}
        shown = {key: read[key] for key in read if key not in ("usual", "launches")}
        facts = {key: value for key, value in made.items() if key != "target"}
        what = made["program"]
        bytes_ = [read["n_bytes"]]
        record("compiled", preset, bytes_, "B", command, what=what, **(extra | facts | shown))


def plugins() -> dict[str, str]:
    """Return the versions of the compilers."""
    found = {}
    for name in _PLUGINS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
