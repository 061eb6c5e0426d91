"""Data sets partitioned on disk, out of core; each process of a run reads only its own parts.

``pairs`` reads Parquet into pairs sorted by user, ``write`` partitions them into one folder per
part, and ``stored`` reads the folders.
"""
