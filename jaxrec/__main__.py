"""Run the command line as ``python -m jaxrec``."""

from jaxrec.cli import main

main()
