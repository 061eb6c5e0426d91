"""Reads Instacart's orders, whose users and products are in separate tables."""

from pathlib import Path

import polars as pl

from jaxrec.data.formats import compressed
from jaxrec.data.formats.assemble import Part
from jaxrec.data.formats.text import TextOptions
from jaxrec.errors import InputError

SOURCE = "The Instacart Online Grocery Shopping Dataset, 2017"
_PRODUCTS = ("order_products__prior.csv", "order_products__train.csv")


def parts(path: Path, options: TextOptions) -> list[Part]:
    """Read the products of all orders, and the users of the orders from ``orders.csv`` beside them.

    The time of a purchase is the number of the order among its user's orders. Each purchase of a
    product has the weight 1.

    Raises:
      InputError: a file is missing, or is not a table with the needed columns.
    """
    orders_files = sorted(path.parent.glob("orders.csv*"))
    if not orders_files:
        raise InputError(
            f"{path}: there is no orders.csv beside it, which has the users of the orders; put it "
            "there"
        )
    orders = _table(orders_files[0], ("order_id", "user_id", "order_number"))
    files = [file for name in _PRODUCTS for file in sorted(path.parent.glob(f"{name}*"))]
    read = []
    for file in files:
        bought = _table(file, ("order_id", "product_id")).with_row_index("row")
        joined = bought.join(orders, on="order_id", how="left", maintain_order="left")
        lone = joined["user_id"].null_count()
        joined = joined.drop_nulls("user_id")
        row = joined["row"].to_numpy()
        frame = joined.select(
            user="user_id",
            item="product_id",
            time=pl.col("order_number").cast(pl.Float64),
            weight=pl.lit(1.0),
        )
        read.append(
            Part(
                file,
                frame,
                lambda n, file=file, row=row: f"{file}:{row[n] + 2}",
                notes={"products of orders that orders.csv lacks, left out": lone},
                reading="user <- `user_id` of orders.csv, item <- `product_id`, "
                "time <- `order_number`",
            )
        )
    return read


def _table(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """Read some columns of whole numbers."""
    content = compressed.unpacked(path)
    try:
        return pl.read_csv(
            path if content is None else content,
            columns=list(columns),
            schema_overrides=dict.fromkeys(columns, pl.Int64),
        ).drop_nulls()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
        raise InputError(
            f"{path}: cannot be read as a table with {', '.join(columns)} "
            f"({str(e).splitlines()[0]}); get it again"
        ) from e
