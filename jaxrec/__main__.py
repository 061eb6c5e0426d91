"""``python -m jaxrec``."""

from jaxrec.cli import main

main()
