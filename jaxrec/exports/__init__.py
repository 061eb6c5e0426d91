"""The formats of ``jaxrec export``, one module per format; each is imported only when used.

The module of a format has ``write(table, path, run)``, which creates the file or folder ``path``,
or ``write_to(table, address)``, which writes to a database. Both return lines for the console. The
module also has ``NEEDS``, a dict that maps each required module to the package that provides it.
The exception is ``safetensors``, which needs no package and has only ``write(table, path)``.
"""
