"""A data set cut into parts on disk, out of core; each process of a run reads its own parts alone.

``pairs`` reads Parquet into pairs sorted by user, ``write`` cuts these into a folder a part,
``stored`` reads the folders.
"""
