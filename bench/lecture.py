"""The lecture's recommenders on Gowalla, D = 64: recall@20 and ndcg@20 on test, three seeds.

``--part models``: MF with BPR, NGCF, GC-MC and PinSAGE. ``--part negatives``: LightGCN with BPR for
equally many steps against uniform negatives alone, and against one hard negative besides: from the
first epoch on, or by PinSAGE's curriculum. Hyper-parameters and lengths were chosen on a tenth of
train held out; each run trains on the whole of train and reads test once.
"""

import argparse
from pathlib import Path

from bench.quality import final

COMMAND = "python -m bench lecture --data gowalla"
# The whole of train, for a length that is known: nothing is left to select.
WHOLE = ("--split.validation", "0", "--eval.select-on", "none", "--eval.every", "0")
WHOLE += ("--eval.k", "20", "--checkpoint.every", "0", "--train.patience", "0")
WHOLE += ("--optim.schedule", "linear")
BPR = ("--train.batch-size", "8192", "--optim.learning-rate", "0.01", "--train.l2", "0.02")
BPR += ("--negatives.name", "uniform", "--model.init", "spectral", "--train.epochs", "8", *WHOLE)
DYNAMIC = ("mf", *BPR, "--negatives.candidates", "32")
MODELS = {
    "MF, BPR": DYNAMIC,
    "NGCF": ("ngcf", "--train.epochs", "10", *WHOLE),
    "GC-MC": ("gcmc", "--train.epochs", "8", *WHOLE),
    "PinSAGE": ("pinsage", "--train.epochs", "6", *WHOLE),
}
STEPS = ("lightgcn", "--model.layers", "2", "--train.batch-size", "4096", "--train.epochs", "10")
STEPS += ("--optim.learning-rate", "0.005", *WHOLE)
HARD = ("--negatives.hard", "1", "--negatives.hard-ranks", "100", "500")
NEGATIVES = {
    "MF, uniform": ("mf", *BPR),
    "MF, dynamic": DYNAMIC,
    "uniform": STEPS,
    "hard": (*STEPS, *HARD, "--negatives.hard-schedule", "1"),
    "curriculum": (*STEPS, *HARD),
}
PARTS = {"models": MODELS, "negatives": NEGATIVES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of train.txt, test.txt")
    parser.add_argument("--part", choices=list(PARTS), nargs="+", default=list(PARTS))
    parser.add_argument("--runs", nargs="+", help="of the parts' names; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", type=Path, help="folder of the runs, to go on where one stopped")
    args = parser.parse_args()
    runs = {name: options for part in args.part for name, options in PARTS[part].items()}
    final(
        "lecture",
        COMMAND,
        args.data,
        {name: runs[name] for name in args.runs or runs},
        args.seeds,
        args.keep,
    )


if __name__ == "__main__":
    main()
