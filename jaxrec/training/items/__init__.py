"""Training of item models, by the loop that trains every other model."""
