"""What requests and answers look like on the wire, and how much of everything a request may ask for."""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass
from typing import Annotated, Any, Final, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evorec.serving.queries import Item, User

LONGEST_TEXT: Final = 256
"""Characters of an id, a name or a value of a feature."""
MOST_IDS: Final = 10_000
"""Ids of one list: liked, exclude, only."""
MOST_VALUES: Final = 1_000
"""Values of one filter, or of one feature that has several."""
MOST_NAMES: Final = 256
"""Features of one user or item, or filters of a request."""
LONGEST_VECTOR: Final = 8_192
MOST_DETAILS: Final = 20
"""Mistakes that one answer lists."""
KIND: Final = re.compile(r"bool|(constrained|nullable|function|tagged)-.*|(list|nullable)\[.*\]|ItemMessage")
"""What pydantic puts into the place of a mistake for each kind that the value might have had."""

Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
"""What single precision holds with room to spare."""
Id = Int64 | Text
Ids = Annotated[list[Id], Field(max_length=MOST_IDS)]
Value = bool | Int64 | Number | Text | None
Features = Annotated[
    dict[Text, Value | Annotated[list[Value], Field(max_length=MOST_VALUES)]], Field(max_length=MOST_NAMES)
]
Filters = Annotated[dict[Text, Annotated[list[Value], Field(max_length=MOST_VALUES)]], Field(max_length=MOST_NAMES)]
Content = Annotated[dict[Text, Annotated[list[Number], Field(max_length=LONGEST_VECTOR)]], Field(max_length=MOST_NAMES)]


@final
@dataclass(frozen=True)
class Limits:
    """How much is accepted.

    Attributes:
        body_bytes: of a request.
        batch: users of a request.
        k: length of a list.
        items: items that one request scores.
        workers: requests worked on at once, each in a thread.
        queue: requests that wait for a worker; more are told to come back.
        read_s: seconds in which a body must have arrived.
    """

    body_bytes: int = 1 << 20
    batch: int = 256
    k: int = 1_000
    items: int = 10_000
    workers: int = 1
    queue: int = 128
    read_s: float = 10.0


class Message(BaseModel):
    """Base of what comes in: nothing unknown, no number that is not finite, and no text where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class UserMessage(Message):
    """Who asks: a known id, or what is known of somebody new."""

    id: Id | None = Field(default=None, description="Without one, or with one never seen, the user is a new one.")
    liked: Ids = Field(default=[], description="Items liked lately, latest first; they are not listed again.")
    features: Features = Field(default={}, description="User features by name; replace those of a known user.")
    context: Features = Field(default={}, description="Features of the moment by name.")
    exclude: Ids = Field(default=[], description="Items never listed.")

    def query(self) -> User:
        """The same for a recommender."""
        return User(self.id, self.liked, self.features, self.context, self.exclude)


class ItemMessage(Message):
    """An item, known or new, with what is known of it."""

    id: Id
    features: Features = Field(default={}, description="Item features by name; replace those of a known item.")
    content: Content = Field(default={}, description="Vectors by part of the content.")

    def query(self) -> Item:
        """The same for a recommender."""
        return Item(self.id, self.features, self.content)


class RecommendRequest(Message):
    """Ask for one list of items per user."""

    users: list[UserMessage] = Field(description="Who asks; one list each, in this order.")
    k: int | None = Field(default=None, description="Length of each list; as the model was measured without one.")
    seen: bool = Field(default=False, description="Whether items of the user's past may be listed.")
    where: Filters | None = Field(default=None, description="Values that item features may have, by feature.")
    only: Ids | None = Field(default=None, description="The items to choose from.")
    mmr: Number | None = Field(
        default=None, ge=0, le=1, description="How much likeness to the items listed before counts against an item."
    )


class ScoreRequest(Message):
    """Ask for what the model predicts of one user and some items."""

    user: UserMessage
    items: list[Id | ItemMessage] = Field(description="Known items by id, new ones with their features.")


def request_models(limits: Limits) -> tuple[type[RecommendRequest], type[ScoreRequest]]:
    """The two requests with the limits of this server in their schema."""
    n_users = Field(min_length=1, max_length=limits.batch, description=_described(RecommendRequest, "users"))
    length = Field(default=None, ge=1, le=limits.k, description=_described(RecommendRequest, "k"))
    n_items = Field(min_length=1, max_length=limits.items, description=_described(ScoreRequest, "items"))

    class Recommend(RecommendRequest):
        __doc__ = RecommendRequest.__doc__
        model_config = ConfigDict(
            title="RecommendRequest",
            json_schema_extra={
                "examples": [
                    {"users": [{"id": 42}], "k": 10},
                    {"users": [{"liked": [7, 3], "features": {"country": "NZ"}}], "where": {"genre": ["drama"]}},
                ]
            },
        )
        users: Annotated[list[UserMessage], n_users]
        k: Annotated[int | None, length] = None

    class Score(ScoreRequest):
        __doc__ = ScoreRequest.__doc__
        model_config = ConfigDict(
            title="ScoreRequest", json_schema_extra={"examples": [{"user": {"id": 42}, "items": [7, {"id": 3}]}]}
        )
        items: Annotated[list[Id | ItemMessage], n_items]

    return Recommend, Score


def _described(model: type[Message], field: str) -> str | None:
    return model.model_fields[field].description


class ListedItem(BaseModel):
    """An item of a list."""

    item: int | str
    score: float


class UserList(BaseModel):
    """What one user gets."""

    user: int | str | None = Field(description="The id that was asked for.")
    known: bool = Field(description="Whether training saw this user.")
    items: list[ListedItem] = Field(description="Best first; fewer than k where there are no more.")


class RecommendResponse(BaseModel):
    """One list per user, in the order asked."""

    version: str = Field(description="The bundle that answered all of it: SHA-256 of its manifest.")
    lists: list[UserList]


class ScoredItem(BaseModel):
    """What is predicted of one item; null stands for what is no finite number."""

    item: int | str
    score: float | None = Field(description="What lists are ordered by.")
    predictions: dict[str, float | None] = Field(description="By task.")


class ScoreResponse(BaseModel):
    """Predictions per item, in the order asked."""

    version: str = Field(description="The bundle that answered: SHA-256 of its manifest.")
    items: list[ScoredItem]


class Status(BaseModel):
    """How the server is."""

    status: str
    version: str | None = Field(default=None, description="The bundle in use: SHA-256 of its manifest.")


class Info(BaseModel):
    """What is served."""

    version: str
    problem: str
    member: str
    tasks: list[str]
    k: int = Field(description="Length of a list where a request names none.")
    users: int
    items: int
    metrics: dict[str, Any] = Field(description="As measured before export.")
    versions: dict[str, str] = Field(description="Of the programs that trained it.")
    limits: dict[str, float] = Field(description="What this server accepts.")


class Mistake(BaseModel):
    """One thing that is wrong with a request."""

    where: str
    expected: str
    got: str


class Refusal(BaseModel):
    """Why there is no answer."""

    error: str
    details: list[Mistake] = []


def mistakes(error: ValidationError) -> list[dict[str, str]]:
    """What a person can mend, one entry per place, the first `MOST_DETAILS`."""
    expected: dict[tuple[str, str], dict[str, None]] = {}  # a value that may be of several kinds has a message for each
    for one in error.errors(include_url=False, include_context=False):
        place = ".".join(str(part) for part in one["loc"] if not KIND.fullmatch(str(part))) or "body"
        got = "nothing" if one["type"] == "missing" else reprlib.repr(one["input"])
        if len(expected) < MOST_DETAILS or (place, got) in expected:
            expected.setdefault((place, got), {})[one["msg"]] = None
    return [{"where": place, "expected": " or ".join(texts), "got": got} for (place, got), texts in expected.items()]
