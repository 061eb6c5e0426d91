"""The memory of a step by `jaxrec plan` and by XLA's compilers for machines that are not here.

Needs the extra `compile`. Nothing is timed. ``tests/aot/test_planned.py`` compares the plan with
the committed lines, and with the compilers themselves under ``pytest -m compile``.
"""

import argparse
from typing import Any, NamedTuple

from bench.common import record
from bench.compiled import GOWALLA, plugins
from jaxrec import config as configs
from jaxrec.aot.parent import compile_for
from jaxrec.aot.targets import target
from jaxrec.cli.train import configured

TEN_TIMES = (298_580, 409_810, 8_101_280)


class Case(NamedTuple):
    """A configuration: a preset, options of `jaxrec train`, sizes of data and number of devices."""

    preset: str
    options: tuple[str, ...] = ()
    sizes: tuple[int, int, int] = TEN_TIMES
    devices: int = 1


CASES = {
    "mf, Gowalla's size": Case("mf", sizes=GOWALLA),
    "mf": Case("mf"),
    "mf, falling rate": Case("mf", ("--optim.schedule", "linear")),
    "mf, adam of all rows": Case("mf", ("--optim.sparse", "False")),
    "mf, row-wise adagrad": Case("mf", ("--optim.name", "rowwise_adagrad")),
    "mf, 8 devices": Case("mf", ("--mesh.table", "8"), devices=8),
    "lightgcn, Gowalla's size": Case("lightgcn", sizes=GOWALLA),
    "lightgcn": Case("lightgcn"),
    "lightgcn, dim 128": Case("lightgcn", ("--model.dim", "128")),
    "lightgcn, 8 devices": Case("lightgcn", ("--mesh.table", "8"), devices=8),
    "ngcf": Case("ngcf"),
    "gcmc": Case("gcmc"),
    "two-tower": Case("two-tower"),
    "pinsage, Gowalla's size": Case("pinsage", sizes=GOWALLA),
    "pinsage": Case("pinsage"),
}
"""The configurations that are compared, for each of two machines."""


def machine(name: str, devices: int) -> str:
    """Return the name of a machine with one device, or with several of the same kind."""
    return target(name).sized(devices).name if devices > 1 else target(name).name


def compile_case(case: Case, name: str, keep: str | None = None) -> dict[str, Any]:
    """Compile the step of a configuration for a machine; see ``parent.compile_for``."""
    config = configured([case.preset, *case.options]).config
    to = target(machine(name, case.devices))
    return compile_for(to, configs.to_dict(config), sizes=case.sizes, keep=keep)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["h200", "v5e"])
    parser.add_argument("--cases", nargs="+", default=[*CASES], choices=[*CASES])
    args = parser.parse_args()
    for name in args.targets:
        for label in args.cases:
            one(name, label)


def one(name: str, label: str) -> None:
    """Compile a configuration for a machine, and record both memories and their parts."""
    case = CASES[label]
    made, to = compile_case(case, name), machine(name, case.devices)
    parts = ("arguments", "temporary", "output", "alias", "code", "peak")
    extra = {"device": to, "target": to, "preset": case.preset, "options": case.options}
    extra |= {"sizes": case.sizes, "planned": made["planned"], "versions": plugins()}
    extra["total"] = sum(made["planned"].values())
    extra |= {part: made[part] for part in parts}
    command = f'python -m bench compiled-plan --targets {name} --cases "{label}"'
    record("compiled-plan", label, [made["memory"]], "B", command, what="step", **extra)


if __name__ == "__main__":
    main()
