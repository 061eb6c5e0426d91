"""The training of a run: the loop, the steps, the checkpoints and the results."""
