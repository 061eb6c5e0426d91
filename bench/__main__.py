"""``python -m bench`` lists the cases; ``python -m bench CASE`` runs one."""

import ast
import importlib
import sys
from pathlib import Path

CASES = {
    "ablation": "ablation",
    "against": "against",
    "auto": "auto",
    "baselines": "baselines",
    "cases": "cases",
    "cold": "cold",
    "compiled": "compiled",
    "compiled-forms": "compiled_forms",
    "compiled-plan": "compiled_plan",
    "doctor": "doctor",
    "doctor-cost": "doctor_cost",
    "doctor-healthy": "doctor_healthy",
    "doctor-presets": "doctor_presets",
    "filters": "filters",
    "first-list": "first_list",
    "growth": "growth",
    "host-tables": "host_tables",
    "ingest": "ingest",
    "kills": "kills",
    "item-graph": "item_graph",
    "item-scale": "item_scale",
    "large": "large",
    "lecture": "lecture",
    "lightgcn-gowalla": "lightgcn_gowalla",
    "memory": "memory",
    "mesh": "mesh",
    "pairs-import": "pairs_import",
    "propagate": "propagate",
    "quality": "quality",
    "quickstart": "quickstart",
    "rank": "rank",
    "ratings": "ratings",
    "readme": "readme",
    "release": "release",
    "reliability": "reliability",
    "same-bits": "same_bits",
    "sample": "sample",
    "sampled": "sampled",
    "serve": "serve",
    "server-faults": "server_faults",
    "skipgram": "skipgram",
    "step": "step",
    "sweep": "sweep",
    "tables": "tables",
    "towers": "towers",
    "walks": "walks",
}


def summary(module: str) -> str:
    """Return the first line of a case's docstring, without importing the packages that it needs."""
    text = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]


def main() -> int:
    """Run the case that the command line names, and return the exit status."""
    if len(sys.argv) < 2:
        for case, module in CASES.items():
            print(f"{case:<18}{summary(module)}")
        return 0
    case = sys.argv.pop(1)
    if case not in CASES:
        print(f"no case {case!r}; cases: {', '.join(CASES)}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(f"bench.{CASES[case]}")
    except ModuleNotFoundError as e:
        print(f"{case} compares with {e.name}: pip install -e '.[bench]'", file=sys.stderr)
        return 1
    module.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
