"""Where a run lies: one device, a mesh of devices, the memory of the host, folders of parts."""
