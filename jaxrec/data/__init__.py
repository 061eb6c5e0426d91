"""Reads data sets and item graphs, and splits them into train, validation and test parts."""
