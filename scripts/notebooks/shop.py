# %% [markdown]
# # A shop: from a DataFrame to lists
#
# Purchases in a table become a model, top-K lists, and the items nearest to one.
# Open it as a notebook with `jupytext --to ipynb shop.py`, or run it: `python shop.py`.

# %%
import os

import numpy as np
import polars as pl

import jaxrec

SMALL = "SMALL" in os.environ  # as the tests run it

# %% [markdown]
# Purchases of a made-up shop: customers like one of four kinds of goods. Take your own table
# instead: one row a purchase, with a customer and an article (and a time, where you have it).

# %%
rng = np.random.default_rng(0)
n_customers, n_articles, n_rows = (60, 40, 900) if SMALL else (600, 200, 20_000)
customer = rng.integers(n_customers, size=n_rows)
liked = rng.random(n_rows) < 0.8
article = np.where(
    liked,
    4 * rng.integers(n_articles // 4, size=n_rows) + customer % 4,
    rng.integers(n_articles, size=n_rows),
)
sales = pl.DataFrame({"customer": customer, "article": article}).select(
    pl.format("c{}", "customer").alias("customer"), pl.format("a{}", "article").alias("article")
)
data = jaxrec.from_polars(sales, user="customer", item="article", name="shop")
print(f"{data.n_users} customers, {data.n_items} articles, {data.n_edges} pairs")

# %% [markdown]
# LightGCN with early stopping on validation. `run.metrics` is of the test part, read once;
# the popularity baseline stands beside it in `run.evaluation`.

# %%
run = jaxrec.train("lightgcn", data=data, dim=16, epochs=3 if SMALL else 30, run="shop-run")
print(run)
popular = run.evaluation["baselines"]["popularity"]
print(f"recall@20: {run.metrics['recall@20']:.3f}, popularity {popular['recall@20']:.3f}")

# %% [markdown]
# Lists without what a customer has bought; sold-out articles are denied.

# %%
recommender = run.recommender()
lists = recommender.recommend(["c0", "c1"], k=5, deny=["a0"])
print(lists)
print(recommender.similar_items(["a1"], k=5))
