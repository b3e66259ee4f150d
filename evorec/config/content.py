"""Fixed vectors of items: from text, files of vectors, a knowledge graph or an encoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, Discriminator, Field, Tag

from evorec.config.section import Section

COOCCURRENCE: Final = "cooccurrence"
"""Name of the source of content that is learned from interactions."""


class _Source(Section):
    dims: int = Field(64, ge=1, le=4096)
    """largest width; longer vectors are reduced by a truncated SVD"""


class _OfText(_Source):
    columns: tuple[str, ...] = Field(min_length=1)
    """columns of the item table that hold text"""


class _OfFile(_Source):
    path: str
    """file or folder; if relative, looked up in data.path, here and under $EVOREC_DATA"""


class TextContent(_OfText):
    """Words of text columns of the item table: TF-IDF, then a truncated SVD, fitted on all items of the table."""

    kind: Literal["text"]
    """words of text columns, TF-IDF"""
    min_count: int = Field(2, ge=1)
    """items that must have a word; rarer words are ignored"""


class VectorsContent(_OfFile):
    """Vectors from another program, e.g. of images, audio or video."""

    kind: Literal["vectors"]
    """files of vectors, e.g. of images"""
    ids: str = ""
    """file with the ids for a .npy (a text with an id per line, or another .npy); name of the array of ids in a .npz
    (default ids); column of ids in a .parquet (default item_id)"""
    vectors: str = ""
    """name of the array of vectors in a .npz (default vectors); column of vectors in a .parquet (default vector)"""


class GraphContent(_OfFile):
    """A knowledge graph: triples of head, relation and tail; items are among the heads and tails."""

    kind: Literal["graph"]
    """a knowledge graph of triples"""
    relations: tuple[str, ...] = ()
    """relations that are used; empty = all"""
    links: str = ""
    """file with the columns item and entity, if entities have other names than items; in the folder of path"""


class EncoderContent(_OfText, _OfFile):
    """A sentence encoder (needs the extra `text`), frozen: the mean of its last hidden states over the words."""

    kind: Literal["encoder"]
    """a sentence encoder in a folder"""
    max_tokens: int = Field(128, ge=8, le=8192)
    """tokens that are read of each item; further tokens are cut off"""


class CooccurrenceContent(_Source):
    """Co-occurrence of users and items: a truncated SVD of the interactions, fitted on training rows."""

    kind: Literal["cooccurrence"]
    """co-occurrence of users and items in training"""
    weighting: Literal["normalised", "ppmi"] = "normalised"
    """normalised = of the user-item matrix, divided by the roots of both counts; ppmi = of the positive pointwise
    mutual information of items met by the same users"""
    shift: float = Field(1.0, ge=1)
    """ppmi: its logarithm is subtracted, as with that many negatives"""
    rows: Literal["all", "positives"] = "all"
    """all = every training row; positives = the target's positives only"""


def _kind(value: Any) -> Any:
    return value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)


ContentConfig = Annotated[
    Annotated[TextContent, Tag("text")]
    | Annotated[VectorsContent, Tag("vectors")]
    | Annotated[GraphContent, Tag("graph")]
    | Annotated[EncoderContent, Tag("encoder")]
    | Annotated[CooccurrenceContent, Tag("cooccurrence")],
    Discriminator(_kind, custom_error_type="content", custom_error_message="unknown kind of content"),
]
"""A source of fixed item vectors."""


CONTENT_KINDS: Final[Mapping[str, type[Section]]] = {
    tag.tag: source for source, tag in map(get_args, get_args(get_args(ContentConfig)[0]))
}
"""``kind`` -> its settings."""


def _named(sources: dict[str, ContentConfig]) -> dict[str, ContentConfig]:
    for name, source in sources.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"a name must be small letters, digits and _, starting with a letter, got {name!r}")
        if (name == COOCCURRENCE) != isinstance(source, CooccurrenceContent):
            raise ValueError(f"the source of kind {COOCCURRENCE!r}, and no other, must have that name, got {name!r}")
    return sources


ContentTable = Annotated[dict[str, ContentConfig], AfterValidator(_named)]
"""Name of a part of the content -> its source."""
