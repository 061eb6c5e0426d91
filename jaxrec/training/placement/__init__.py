"""Where a run's arrays are kept: one device, a mesh, host memory, or folders of parts on disk."""
