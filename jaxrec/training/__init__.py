"""A run: its loop, its steps, its checkpoints and its results."""
