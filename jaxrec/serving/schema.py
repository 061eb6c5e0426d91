"""Schemas of requests and answers, which the OpenAPI description shows."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from jaxrec.serving.limits import ID_LENGTH, Limits


def _whole(value: Any) -> Any:
    """Convert integral floats to integers, since 5.0 and 5 are the same number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Id = Annotated[str, Field(min_length=1, max_length=ID_LENGTH)]
Condition = Annotated[
    str,
    Field(max_length=ID_LENGTH, pattern=r"^[^=!<>]+(=|!=|<=|>=|<|>)[^=!<>]*$"),
]
Ids = Annotated[list[Id], Field(max_length=Limits.ids)]
Conditions = Annotated[list[Condition], Field(max_length=16)]
Unknown = Literal["popular", "fail"]


class Strict(BaseModel):
    """A request body, in which unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Recommend(Strict):
    """A request for recommendations to a user, for a basket of items, or for both."""

    user: Id | None = Field(None, description="A user of the run.")
    basket: Ids = Field([], description="Items of a new user, or more items of the user.")
    k: Whole = Field(20, ge=1, description="Length of the list.")
    deny: Ids = Field([], description="Items to leave out.")
    where: Conditions = Field([], description="Conditions that all items meet: category=dvd.")
    titles: bool = Field(True, description="Whether to return each item's row of the table.")
    include_seen: bool = Field(False, description="Also recommend items that the user has.")
    unknown: Unknown = Field(
        "popular", description="What an unknown user gets: popular items, or status 404."
    )


class Similar(Strict):
    """A request for the nearest items of each given item."""

    items: Ids = Field(min_length=1)
    k: Whole = Field(10, ge=1)
    where: Conditions = []
    titles: bool = True


class Batch(Strict):
    """Several requests for recommendations."""

    requests: list[Recommend] = Field(min_length=1, max_length=Limits.batch)


class Item(BaseModel):
    """An item of a list."""

    item: str
    rank: Whole
    score: float
    about: dict[str, Any] | None = Field(None, description="The item's row in the table of items.")


class Answer(BaseModel):
    """The answer to a request: a list of items, best first."""

    user: str | None
    source: Literal["model", "basket", "popular"]
    items: list[Item]
    skipped: list[str] = Field(description="Unknown ids of the request.")


class Answers(BaseModel):
    """The lists of several requests, in the order of the requests."""

    answers: list[Answer]


class Neighbours(BaseModel):
    """The nearest items of an item."""

    item: str
    items: list[Item]


class Found(BaseModel):
    """Items found by a part of their title or id."""

    items: list[dict[str, str | None]]


class Health(BaseModel):
    """The state of a server."""

    status: Literal["ok"]
    users: int
    items: int
    version: int = Field(description="Number of runs loaded so far, starting at 1.")
    ranks_by: Literal["vectors", "histories"] = Field(
        description="Lists are computed from users' vectors or, by a graph filter, their items."
    )
    max_k: int = Field(description="Greatest length of a list.")


class Problem(BaseModel):
    """The reason of an error."""

    detail: str
