"""Export to the tables jaxrec_users and jaxrec_items of a PostgreSQL database."""

from jaxrec.errors import InputError
from jaxrec.exports.tables import tables
from jaxrec.runfolder import Embeddings

NEEDS = {"psycopg": "psycopg[binary]"}


def write_to(table: Embeddings, address: str) -> list[str]:
    """Write both tables in one transaction; existing tables with these names are replaced.

    Embeddings are stored as arrays (real[]), or as vectors if the database already has the
    extension pgvector.

    Raises:
      InputError: the database cannot be reached or written.
    """
    import psycopg  # pyright: ignore[reportMissingImports]

    size = table.item.shape[1]
    try:
        with psycopg.connect(address, connect_timeout=10) as connection:
            found = connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'")
            vector = found.fetchone() is not None
            kind = f"vector({size})" if vector else "real[]"
            for name, frame in tables(table):
                into = f"jaxrec_{name}"
                connection.execute(f"DROP TABLE IF EXISTS {into}".encode())
                bias = ", bias real" if "bias" in frame.columns else ""
                columns = f"id text PRIMARY KEY, embedding {kind} NOT NULL{bias}"
                connection.execute(f"CREATE TABLE {into} ({columns})".encode())
                with connection.cursor().copy(f"COPY {into} FROM STDIN".encode()) as copy:
                    for row in frame.iter_rows():
                        copy.write_row((row[0], str(row[1]) if vector else row[1], *row[2:]))
    except psycopg.Error as e:
        reason = (str(e).strip().splitlines() or ["no reason given"])[0]
        raise InputError(f"export to postgresql: {reason}") from e
    return [f"tables jaxrec_users and jaxrec_items, with embeddings as {kind}"]
