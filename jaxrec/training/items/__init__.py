"""Training of models of items alone, by the loop that trains every other model."""
