"""Training of item models, by the same loop that trains every other model."""
