"""Placement of a run's arrays: one device, a mesh, host memory, or a partitioned data set."""
