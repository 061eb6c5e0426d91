"""Write the API pages from the docstrings of the public names: python scripts/api_pages.py OUT

Needs pdoc (the extra ``dev``). Exit status 1 where pdoc warns.
"""

import sys
import warnings
from pathlib import Path

PUBLIC = ("jaxrec", "jaxrec.graph", "jaxrec.losses", "jaxrec.models", "jaxrec.negatives")


def write(out: Path) -> list[str]:
    """Write a page a public module, and return what pdoc warned of."""
    import pdoc
    from pdoc import render

    render.configure(docformat="google", show_source=False)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", UserWarning)
        pdoc.pdoc(*PUBLIC, output_directory=out)
    return [str(warning.message) for warning in heard if warning.category is UserWarning]


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    out = Path(sys.argv[1])
    warned = write(out)
    print(*warned, sep="\n", end="\n" if warned else "", file=sys.stderr)
    print(f"{out / 'index.html'}")
    return int(bool(warned))


if __name__ == "__main__":
    sys.exit(main())
