"""Diagnoses why embeddings collapse or training stalls: measures, thresholds and findings."""
