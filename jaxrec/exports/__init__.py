"""The formats of ``jaxrec export``, one module per format; each is imported only when used.

Each module has ``write(table, path, run)``, which creates the file or folder ``path``, or
``write_to(table, address)``, which writes to a database. Both return lines for the console. The
module also has ``NEEDS``, a dict that maps each required module to the package that provides it.
"""
