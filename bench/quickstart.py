"""``jaxrec train`` on the embedded data: seconds in a fresh process, and recall beside baselines.

And ``jaxrec --help``, which must not wait for jax.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.common import record
from bench.common import seconds as clock
from jaxrec.config import SplitConfig
from jaxrec.data import synthetic
from jaxrec.data.split import split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    seconds, compiling, results, ceilings = [], [], [], []
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as parent:
            run = Path(parent) / "run"
            command = [sys.executable, "-m", "jaxrec", "train", "--seed", str(seed)]
            began = time.perf_counter()
            subprocess.run([*command, "--run", str(run), "--quiet"], check=True)
            seconds.append(time.perf_counter() - began)
            timing = [json.loads(t) for t in (run / "timing.jsonl").read_text().splitlines()]
            compiling.append(sum(t.get("compile_seconds", 0.0) for t in timing))
            results.append(json.loads((run / "eval.json").read_text()))
        parts = split(synthetic.embedded(), SplitConfig(), seed)
        seen = (parts.train, parts.validation)
        ceilings.append(synthetic.ceiling(synthetic.embedded_truth(), seen, parts.test, 20))

    def line(what: str, impl: str, values: list[float], unit: str) -> None:
        mean = sum(values) / len(values)
        command = "python -m bench quickstart"
        record("quickstart", impl, values, unit, command, what=what, mean=mean, seeds=args.seeds)

    def ask_for_help() -> None:
        command = [sys.executable, "-m", "jaxrec", "--help"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    line("jaxrec --help, whole process", "jaxrec", clock(ask_for_help, repeats=10), "s")
    line("whole process", "jaxrec", seconds, "s")
    line("compilation of the step", "jaxrec", compiling, "s")
    for name in ("recall@20", "ndcg@20"):
        for place, parts_of in (("test", lambda r: r), ("validation", lambda r: r["validation"])):
            shown = [parts_of(r) for r in results]
            line(f"{place} {name}", "jaxrec", [r["metrics"][name] for r in shown], name)
            for who in ("popularity", "random"):
                line(f"{place} {name}", who, [r["baselines"][who][name] for r in shown], name)
    line("test recall@20", "ceiling", ceilings, "recall@20")


if __name__ == "__main__":
    main()
