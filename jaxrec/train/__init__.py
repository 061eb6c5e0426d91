"""The run: state and step, the loop around them, checkpoints, signals and results."""

from jaxrec._packages import make_callable

make_callable(__name__, "jaxrec.train.run", "train")
