"""Requests and responses of the HTTP service."""

from __future__ import annotations

import re
import reprlib
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticCustomError

from evorec.data.ids import LARGEST_EXACT
from evorec.serving.limits import Limits

LONGEST_TEXT: Final = 256
"""Characters of an id, a name or a value of a feature."""
MOST_IDS: Final = 10_000
"""Ids of a list: liked, exclude, only."""
MOST_VALUES: Final = 1_000
"""Values of a filter or of a multi-valued feature."""
MOST_NAMES: Final = 256
"""Features of a user or item, or filters of a request."""
LONGEST_VECTOR: Final = 8_192
MOST_DETAILS: Final = 20
"""Errors that a response lists."""
KIND: Final = re.compile(r"bool|(constrained|nullable|function|tagged)-.*|(list|nullable)\[.*\]|ItemMessage")
"""Parts of a location that pydantic adds for each type of a union."""


def _exact(value: Any) -> Any:
    """An id, unless its number may have lost digits on the way: many programs keep all numbers of JSON as floats."""
    if isinstance(value, float):
        raise PydanticCustomError("id_float", 'an id must be a whole number or a text, such as 7 or "7", not a float')
    if isinstance(value, int) and abs(value) > LARGEST_EXACT:
        raise PydanticCustomError(
            "id_digits",
            'an id beyond {largest} must be a text, such as "653247040368672007": many programs round such numbers',
            {"largest": LARGEST_EXACT},
        )
    return value


Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
"""Far inside the range of single precision."""
Id = Annotated[Annotated[int, Field(ge=-LARGEST_EXACT, le=LARGEST_EXACT)] | Text, BeforeValidator(_exact)]
Ids = Annotated[list[Id], Field(max_length=MOST_IDS)]
Value = bool | Int64 | Number | Text | None
Values = Annotated[list[Value], Field(max_length=MOST_VALUES)]
Features = Annotated[dict[Text, Value | Values], Field(max_length=MOST_NAMES)]
Filters = Annotated[dict[Text, Values], Field(max_length=MOST_NAMES)]
Content = Annotated[dict[Text, Annotated[list[Number], Field(max_length=LONGEST_VECTOR)]], Field(max_length=MOST_NAMES)]


class Message(BaseModel):
    """Base of requests: no unknown keys, no infinite numbers, no text instead of a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class UserMessage(Message):
    """A user by id, by description, or both."""

    id: Id | None = Field(default=None, description="Without an id, or with an unknown id, the user is new.")
    liked: Ids = Field(default=[], description="Recently liked items, latest first; they are not listed again.")
    features: Features = Field(default={}, description="User features by name; replace those of a known user.")
    context: Features = Field(default={}, description="Context features by name.")
    exclude: Ids = Field(default=[], description="Items that are never listed.")


class ItemMessage(Message):
    """A known item, or a new item with its description."""

    id: Id
    features: Features = Field(default={}, description="Item features by name; replace those of a known item.")
    content: Content = Field(default={}, description="Vectors by part of the content.")


class RecommendRequest(Message):
    """Request for a list of items per user."""

    users: list[UserMessage] = Field(description="The lists have the same order.")
    k: int | None = Field(default=None, description="Length of each list; default that of the model's evaluation.")
    seen: bool = Field(default=False, description="Whether items of the user's history may be listed.")
    where: Filters | None = Field(default=None, description="Accepted values of item features, by feature.")
    only: Ids | None = Field(default=None, description="The items to choose from.")
    mmr: Number | None = Field(default=None, ge=0, le=1, description="Weight of re-ranking for diversity.")
    show: list[Text] = Field(
        default=[], max_length=MOST_NAMES, description="Columns of the items table to show with each item; see /info."
    )


class ScoreRequest(Message):
    """Request for the predictions for a user and some items."""

    user: UserMessage
    items: list[Id | ItemMessage] = Field(description="Known items by id, new items with their features.")


class RowsRequest(Message):
    """Request for the predictions of rows."""

    rows: list[Features] = Field(description="Features of each row by name; a missing feature is unknown.")


RECOMMEND_EXAMPLES: Final[list[Any]] = [
    {"users": [{"id": 42}], "k": 10},
    {"users": [{"liked": [7, 3], "features": {"country": "NZ"}}], "where": {"genre": ["drama"]}},
]
SCORE_EXAMPLES: Final[list[Any]] = [{"user": {"id": 42}, "items": [7, {"id": 3}]}]


ROWS_EXAMPLES: Final[list[Any]] = [{"rows": [{"region": 3, "age": 41.5}]}]


def request_models(limits: Limits) -> tuple[type[RecommendRequest], type[ScoreRequest], type[RowsRequest]]:
    """The requests with the limits of this server in their schema."""

    def limited(base: type[Any], examples: list[Any], **bounds: dict[str, Any]) -> Any:
        fields: dict[str, Any] = {}
        for name, bound in bounds.items():
            own = base.model_fields[name]
            default = {} if own.is_required() else {"default": own.default}
            fields[name] = (own.annotation, Field(**default, **bound, description=own.description))
        config = {"json_schema_extra": {"examples": examples}}
        return create_model(base.__name__, __base__=base, __doc__=base.__doc__, __cls_kwargs__=config, **fields)

    recommend = limited(
        RecommendRequest,
        RECOMMEND_EXAMPLES,
        users={"min_length": 1, "max_length": limits.batch},
        k={"ge": 1, "le": limits.k},
    )
    bounds = {"min_length": 1, "max_length": limits.items}
    score, rows = limited(ScoreRequest, SCORE_EXAMPLES, items=bounds), limited(RowsRequest, ROWS_EXAMPLES, rows=bounds)
    return recommend, score, rows


class ListedItem(BaseModel):
    """An item of a list."""

    item: int | str
    score: float
    shown: dict[str, Any] | None = Field(default=None, description="The columns that `show` names.")


class UserList(BaseModel):
    """The list of a user."""

    user: int | str | None = Field(description="The id of the request; a number beyond 2**53 - 1 is a text.")
    known: bool = Field(description="Whether the user is in the training data.")
    items: list[ListedItem] = Field(description="Best first; fewer than k where no more are left.")
    note: str | None = Field(default=None, description="Why a list is empty.")


class RecommendResponse(BaseModel):
    """A list per user, in the order of the request."""

    version: str = Field(description="The bundle of all answers: SHA-256 of its manifest.")
    lists: list[UserList]
    unknown: dict[str, list[Any]] = Field(
        description="Items and values of the request that the model does not know and that lists ignore, by field."
    )


class ScoredItem(BaseModel):
    """Predictions for an item; null replaces numbers that are not finite."""

    item: int | str
    score: float | None = Field(description="Lists are ordered by it.")
    predictions: dict[str, float | None] = Field(description="By task.")


class ScoreResponse(BaseModel):
    """Predictions per item, in the order of the request."""

    version: str = Field(description="The bundle of all answers: SHA-256 of its manifest.")
    items: list[ScoredItem]


class RowsResponse(BaseModel):
    """Predictions per row, in the order of the request."""

    version: str = Field(description="The bundle of all answers: SHA-256 of its manifest.")
    rows: list[dict[str, float]] = Field(description="Per row, the prediction of every task.")


class Status(BaseModel):
    """State of the server."""

    status: str
    version: str | None = Field(default=None, description="The bundle in use: SHA-256 of its manifest.")


class Info(BaseModel):
    """The served bundle and the limits."""

    version: str
    problem: str
    member: str
    tasks: list[str]
    k: int = Field(description="Default length of a list.")
    users: int
    items: int
    features: list[str] | None = Field(default=None, description="Of a row, where there are no users and items.")
    shown: list[str] = Field(description="Columns of the items table that lists can show.")
    metrics: dict[str, Any] = Field(description="As measured before export.")
    versions: dict[str, str] = Field(description="Of the libraries that trained it.")
    limits: dict[str, float] = Field(description="Limits of this server.")


class Mistake(BaseModel):
    """An error in a request."""

    where: str
    expected: str
    got: str


class Refusal(BaseModel):
    """Why a request was refused."""

    error: str
    details: list[Mistake] = []


def mistakes(error: ValidationError) -> list[dict[str, str]]:
    """The errors of a request, an entry per location, the first `MOST_DETAILS`."""
    expected: dict[tuple[str, str], dict[str, None]] = {}  # a value of a union has a message for each type
    for found in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in found["loc"] if not KIND.fullmatch(str(part))) or "body"
        got = "nothing" if found["type"] == "missing" else reprlib.repr(found["input"])
        if len(expected) < MOST_DETAILS or (where, got) in expected:
            expected.setdefault((where, got), {})[found["msg"]] = None
    return [{"where": where, "expected": " or ".join(texts), "got": got} for (where, got), texts in expected.items()]
