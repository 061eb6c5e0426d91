"""Formats of ``jaxrec export``, one module each, which is imported when the format is used.

Each module has ``write(table, path, run)``, which creates the file or folder ``path``, or
``write_to(table, address)``, which writes to a database. Both return lines for the console. The
module also has ``NEEDS``, a dict from each module that it imports to the package to install.
"""
