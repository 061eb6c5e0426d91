"""Requests and answers, as the OpenAPI page describes them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from jaxrec.serving.limits import ID_LENGTH, Limits


def _whole(value: Any) -> Any:
    """A number without its point: 5.0 is an integer in JSON."""
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
    """A request body: other fields than those named are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Recommend(Strict):
    """Who a list is for: a user, a basket of items, or both."""

    user: Id | None = Field(None, description="A user of the run.")
    basket: Ids = Field([], description="Items that the user has besides, or has alone.")
    k: Whole = Field(20, ge=1, description="The length of the list.")
    deny: Ids = Field([], description="Items that are left out.")
    where: Conditions = Field([], description="Conditions that all items fulfil: category=dvd.")
    titles: bool = Field(True, description="Whether each item comes with its columns.")
    include_seen: bool = Field(False, description="Also items that the user has.")
    unknown: Unknown = Field("popular", description="What an unknown user gets: a list, or 404.")


class Similar(Strict):
    """Items whose neighbours are asked for."""

    items: Ids = Field(min_length=1)
    k: Whole = Field(10, ge=1)
    where: Conditions = []
    titles: bool = True


class Batch(Strict):
    """Several requests at once."""

    requests: list[Recommend] = Field(min_length=1, max_length=Limits.batch)


class Item(BaseModel):
    """One place of a list."""

    item: str
    rank: Whole
    score: float
    about: dict[str, Any] | None = Field(None, description="The item's row in the table of items.")


class Answer(BaseModel):
    """A list, best first."""

    user: str | None
    source: Literal["model", "basket", "popular"]
    items: list[Item]
    skipped: list[str] = Field(description="Ids of the request that the run does not know.")


class Answers(BaseModel):
    """Lists in the order of their requests."""

    answers: list[Answer]


class Neighbours(BaseModel):
    """The items nearest to one."""

    item: str
    items: list[Item]


class Found(BaseModel):
    """Items whose title or id has a text in it."""

    items: list[dict[str, str | None]]


class Health(BaseModel):
    """That a server answers, and with what."""

    status: Literal["ok"]
    users: int
    items: int
    version: int = Field(description="1, and one more with each run loaded since.")


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str
