"""Bytes on disk to a Dataset, and a Dataset to its train, validation and test parts."""
