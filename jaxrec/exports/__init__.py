"""Formats of ``jaxrec export`` with a file each, imported when one is asked for.

Each module has ``write(table, path, run)``, which writes a file or a folder that does not exist yet
and gives lines to be said, and ``NEEDS``, what it imports by the name of its package.
"""
