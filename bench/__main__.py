"""``python -m bench`` lists the cases; ``python -m bench CASE`` runs one."""

import importlib
import sys

CASES = {
    "baselines": "bench.baselines",
    "ingest": "bench.ingest",
    "rank": "bench.rank",
    "step": "bench.step",
    "propagate": "bench.propagate",
    "lightgcn-gowalla": "bench.lightgcn_gowalla",
    "quickstart": "bench.quickstart",
}


def main() -> int:
    """Run the case that the command line names. Returns the exit status."""
    if len(sys.argv) < 2:
        for case, module in CASES.items():
            summary = (importlib.import_module(module).__doc__ or "").splitlines()[0]
            print(f"{case:<16}{summary}")
        return 0
    case = sys.argv.pop(1)
    if case not in CASES:
        print(f"no case {case!r}; cases: {', '.join(CASES)}", file=sys.stderr)
        return 2
    importlib.import_module(CASES[case]).main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
