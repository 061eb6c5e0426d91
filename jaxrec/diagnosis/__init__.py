"""Finds out why embeddings collapse and training stalls: measures, thresholds and findings."""
