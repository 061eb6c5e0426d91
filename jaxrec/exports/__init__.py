"""Formats of ``jaxrec export``, one module each, which is imported when the format is used.

Each module has ``write(table, path, run)``, which creates the file or folder ``path`` and returns
lines for the console. It also has ``NEEDS``, the packages to install by the modules that it
imports.
"""
