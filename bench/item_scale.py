"""Five epochs of skip-gram on 2 million items and 26.5 million pairs, killed once and resumed.

A generated graph of the size of Amazon's books, with power-law degrees, is written once. Each
training process is started as a user starts it. The first is killed by SIGKILL a few minutes into
training, at its first checkpoint after step 0; the next resumes from there. The speed is taken from
timing.jsonl, and memory is the maximum over the processes.
"""

import argparse
import signal
import tempfile
from pathlib import Path

from bench import stages
from bench.common import device, record
from jaxrec.data import synthetic_items
from jaxrec.runfolder import read_json, read_lines

COMMAND = "python -m bench item-scale"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=2_000_000)
    parser.add_argument("--pairs", type=int, default=26_500_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=5.0, help="between two checkpoints")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        data, run = Path(parent) / "data", Path(parent) / "run"
        made = synthetic_items.make(args.items, args.pairs, communities=max(args.items // 500, 1))
        made.save(data)
        largest = int(made.degree().max())
        del made
        options = ["--data", str(data), "--run", str(run), "--train.epochs", str(args.epochs)]
        options += ["--train.no-refit", "--checkpoint.minutes", str(args.minutes)]
        train = ["jaxrec", "train", "skipgram", *options]
        killed = stages.run(train, lambda: bool(stages.sealed(run)))
        assert killed.status == -signal.SIGKILL, killed.status
        killed_at = max(stages.sealed(run))
        resumed = stages.run(["jaxrec", "resume", str(run)])
        assert resumed.status == 0, resumed.status
        timing, metrics = read_lines(run / "timing.jsonl"), read_json(run / "eval.json")["metrics"]
    rates = [line["walks_per_second"] for line in timing if "walks_per_second" in line]
    about = {"items": args.items, "pairs": args.pairs, "epochs": args.epochs, "device": device()}
    about |= {"largest_degree": largest, "killed_after_step": killed_at}
    about |= {f"test_{metric}": value for metric, value in metrics.items()}

    def line(what: str, values: list[float], unit: str) -> None:
        record("item-scale", "jaxrec skipgram", values, unit, COMMAND, what=what, **about)

    line("whole run, killed and resumed", [(killed.seconds + resumed.seconds) / 60], "min")
    line("largest memory of its processes", [max(killed.memory, resumed.memory) / 1e9], "GB")
    line("walks of 10 items", rates, "walks/s")


if __name__ == "__main__":
    main()
