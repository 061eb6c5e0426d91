# %% [markdown]
# # Films: two towers over ids and genres, and lists with titles
#
# Data of MovieLens' kind: ratings by users, films with a title and genres. Set `MOVIELENS` to the
# path of a MovieLens folder, or run it on made-up films.

# %%
import os
from pathlib import Path

import numpy as np
import polars as pl

import jaxrec

SMALL = "SMALL" in os.environ  # as the tests run it
MOVIELENS = None  # or a folder such as "ml-latest-small"

# %% [markdown]
# Without a folder: films of two genres each, and users who like films of one genre.

# %%
GENRES = ["Drama", "Comedy", "Crime", "Fantasy", "War", "Musical"]


def made_up(folder: Path, n_users: int, n_films: int, n_ratings: int) -> Path:
    """Write ratings.csv and movies.csv as MovieLens has them."""
    rng = np.random.default_rng(0)
    genres = np.stack([rng.permutation(len(GENRES))[:2] for _ in range(n_films)])
    user = rng.integers(n_users, size=n_ratings)
    film = rng.integers(n_films, size=(n_ratings, 6))
    fits = (genres[film] == (user % len(GENRES))[:, None, None]).any(axis=2)
    film = film[np.arange(n_ratings), fits.argmax(axis=1)]
    folder.mkdir(exist_ok=True)
    pl.DataFrame(
        {
            "userId": user + 1,
            "movieId": film + 1,
            "rating": rng.integers(2, 11, size=n_ratings) / 2,
            "timestamp": np.arange(n_ratings) + 10**9,
        }
    ).unique(["userId", "movieId"], keep="first", maintain_order=True).write_csv(
        folder / "ratings.csv"
    )
    pl.DataFrame(
        {
            "movieId": np.arange(n_films) + 1,
            "title": [f"Film {n + 1} ({1950 + n % 70})" for n in range(n_films)],
            "genres": ["|".join(GENRES[g] for g in of) for of in genres],
        }
    ).write_csv(folder / "movies.csv")
    return folder


sizes = (80, 60, 1500) if SMALL else (600, 400, 30_000)
source = Path(MOVIELENS) if MOVIELENS else made_up(Path("films"), *sizes)
data = jaxrec.read(source)
print(f"{data.n_users} users, {data.n_items} films, {data.n_edges} ratings")

# %%
run = jaxrec.train("two-tower", data=data, epochs=2 if SMALL else 20, run="films-run")
print(run)

# %% [markdown]
# Lists with titles: a join with the table of films.

# %%
titles = pl.read_csv(source / "movies.csv").select(
    pl.col("movieId").cast(pl.String).alias("item"), "title", "genres"
)
lists = run.recommender().recommend(data.user_ids[:2].tolist(), k=5)
print(lists.join(titles, on="item", how="left", maintain_order="left"))
