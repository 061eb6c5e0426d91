"""The run: state and step, the loop around them, checkpoints, signals and results."""
