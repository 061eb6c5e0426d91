"""Build notebooks from scripts/notebooks and execute them: python scripts/build_notebooks.py OUT

Writes OUT/NAME.ipynb with its output. With SMALL=1 in the environment, data and training are small.
Needs jupytext, nbclient and ipykernel (the extra ``dev``). Exit status 1 where a cell fails.
"""

# pyright: reportMissingImports=false
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "notebooks"


def build(source: Path, out: Path) -> Path:
    """Execute a notebook in a fresh folder, and write it with its output to the folder ``out``.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell fails.
    """
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    notebook = jupytext.read(source)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=600, resources=where).execute()
    path = out / f"{source.stem}.ipynb"
    nbformat.write(notebook, path)
    return path


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    from nbclient.exceptions import CellExecutionError

    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for source in sorted(SOURCES.glob("*.py")):
        try:
            print(build(source, out))
        except CellExecutionError as e:
            print(f"{source}: {e}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
