"""A Dataset as a graph on the device, and the products with its adjacency matrix."""
