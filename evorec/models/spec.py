"""The typed settings of a multi-task recommender, to which a genome decodes, and the search space of these settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, final

from evorec.config import COOCCURRENCE
from evorec.errors import ConfigError
from evorec.models.balancing import BALANCINGS
from evorec.models.blocks import InputBlock
from evorec.models.choice import MECHANISMS, POSITIVE, Choice, log_gene, merged, ordered
from evorec.models.encoder import ENCODERS
from evorec.models.item_item import DEFAULTS as ITEM_ITEM_DEFAULTS
from evorec.models.item_item import ITEM_ITEMS
from evorec.models.optimizer import OPTIMIZERS
from evorec.models.retrieval_loss import RETRIEVAL_LOSSES
from evorec.registry import Registry
from evorec.space.genes import Boolean, Categorical, Fixed, Gene, Integer, Real, Simplex, Value, When
from evorec.space.space import SearchSpace


@final
@dataclass(frozen=True)
class ModelSpec:
    """Settings of a member.

    Attributes:
        task_weights: loss weight of each task, ``(T,)``, sum T; empty = retrieval only, without a ranker.
        mechanism: how tasks share, a name of `evorec.models.choice.MECHANISMS`.
        sharing_depth: layers before the towers, 0..L: shared, stitched or of experts, as the mechanism says.
        task_embeddings: whether each task has an embedding table besides the shared table.
        balancing: how the task losses are balanced, a name of `evorec.models.balancing.BALANCINGS`.
        embedding_dim: E.
        width: units per layer W.
        dropout: rate after the embeddings and after every layer, in [0, 1).
        optimizer: a name of `evorec.models.optimizer.OPTIMIZERS`.
        learning_rate: step size of the dense parts.
        embedding_learning_rate: step size of the embedding table.
        embedding_decay: decoupled weight decay λ of the embedding table.
        dense_decay: decoupled weight decay λ of the dense weights.
        retrieval_weight: weight of the retrieval loss, outside the task simplex.
        retrieval_loss: a name of `evorec.models.retrieval_loss.RETRIEVAL_LOSSES`.
        negatives: negatives of each positive, at most.
        negative_source: ``batch`` = other positives of the batch, ``uniform`` = items drawn uniformly.
        temperature: the cosine of user and item is divided by it.
        history_weight: share of the user's past target positives in the retrieval vector; 0 = none.
        popularity_weight: share of the log-popularity prior in the retrieval score; 1 = calibrated, 0 = none.
        popularity_smoothing: positives added to every item before the logarithm.
        popularity_half_life: age in days at which a positive counts half in the prior.
        new_item_popularity: quantile of the shown items' popularity that an item without a training row counts with.
        rank_blend: ρ, weight of the ranker in the list score; 0 = retrieval order.
        off: names of the blocks of the input that are switched off (`evorec.models.blocks`), ascending.
        ranks: name and rank of each part of the content whose projection is a product of two thin matrices, ascending.
        graph_layers: L of the graph that smooths the id rows (`evorec.training.smoothing`); 0 = none.
        graph_trained: whether training goes through these layers; else they are put on the trained rows.
        id_dropout: share of the users' and items' id rows that a training step drops (`evorec.training.id_dropout`).
        pretrained: whether the items' rows start from their co-occurrence vectors instead of noise.
        target_attention: how the ranker weighs the user's past for each item (`evorec.models.target_attention`):
            ``softmax``, ``sigmoid``, or ``none`` = it does not read the past.
        ensemble_heads: K, heads of each task that share all layers (`evorec.models.ensemble`); 1 = an ordinary ranker.
        item_item: kind of the item-item scores, a name of `evorec.models.item_item.ITEM_ITEMS`.
        item_item_share: share of the item-item scores in the retrieval score, in [0, 1]; the vectors' is the rest.
        past_decay: weight of an item of the past per step back in the item-item scores, in (0, 1].
        past_half_life: age in days, behind the user's latest item, at which an item of the past counts half there.
        ema: decay per step of the moving average of the weights that replaces them after training, in [0, 1); 0 = none.
        encoder: how the past enters the retrieval vector, a name of `evorec.models.encoder.ENCODERS`.
        bag_decay: of the bag, the factor of a past positive's weight for every later positive; 1 = none.
        user_vector: whether the user's own vector enters the retrieval vector besides the encoded past.
        settings: name and value of the genes that only the chosen mechanism, balancing, optimiser, loss and encoder
            read, ascending.
    """

    task_weights: tuple[float, ...]
    mechanism: str
    sharing_depth: int
    task_embeddings: bool
    balancing: str
    embedding_dim: int
    width: int
    dropout: float
    optimizer: str
    learning_rate: float
    embedding_learning_rate: float
    embedding_decay: float
    dense_decay: float
    retrieval_weight: float
    retrieval_loss: str
    negatives: int
    negative_source: str
    temperature: float
    history_weight: float
    popularity_weight: float
    popularity_smoothing: float
    popularity_half_life: float
    rank_blend: float
    new_item_popularity: float = 0.0
    off: tuple[str, ...] = ()
    ranks: tuple[tuple[str, int], ...] = ()
    pretrained: bool = False
    target_attention: str = "none"
    ensemble_heads: int = 1
    ema: float = 0.0
    encoder: str = "bag"
    bag_decay: float = 1.0
    user_vector: bool = True
    item_item: str = "none"
    item_item_share: float = 1.0
    past_decay: float = 1.0
    past_half_life: float = math.inf
    id_dropout: float = 0.0
    graph_layers: int = 0
    graph_trained: bool = False
    settings: tuple[tuple[str, Value], ...] = ()

    @property
    def reads_order(self) -> bool:
        """Whether the past is encoded in order, by a sequence encoder."""
        return ENCODERS[self.encoder].is_sequence

    @property
    def trains_graph(self) -> bool:
        """Whether training goes through graph layers."""
        return self.graph_trained and self.graph_layers > 0

    def setting(self, name: str) -> Any:
        """The value of a gene that only some members have."""
        return dict(self.settings)[name]

    @property
    def item_item_settings(self) -> dict[str, Any]:
        """The settings of the item-item matrix."""
        names = ITEM_ITEMS[self.item_item].gene_names
        return {name: value for name, value in self.settings if name in names}

    @property
    def uses_item_item(self) -> bool:
        """Whether item-item scores are in the retrieval score."""
        return self.item_item != "none" and self.item_item_share > 0

    @property
    def uses_vectors(self) -> bool:
        """Whether the vectors of users and items are in the retrieval score."""
        return not self.uses_item_item or self.item_item_share < 1

    @property
    def is_trained(self) -> bool:
        """Whether anything is trained: not of item-item scores alone, without a ranker."""
        return bool(self.task_weights) or self.uses_vectors

    @classmethod
    def from_genes(cls, genes: Mapping[str, Any]) -> ModelSpec:
        """Spec from decoded genes; settings that the chosen mechanism or loss does not use get their neutral value.

        The switches `history` and `rerank` turn their weight to 0. A block of the input without genes is on, and its
        projection has the full rank. Task tables that no unit would read are left out: towers above a shared layer read
        the shared table alone.

        Raises:
            ConfigError: a setting is missing, not known, or not used by the mechanism.
        """
        for name, options in {**CHOICES, "negative_source": NEGATIVE_SOURCES, "target_attention": ATTENTIONS}.items():
            if name in genes and str(genes[name]) not in options:
                known = [choice.name for choice in ordered(CHOICES[name])] if name in CHOICES else options
                raise ConfigError(f"{name} must be one of {', '.join(known)}; got {genes[name]!r}.")
        own = {name: value for name, value in genes.items() if name not in NO_FIELDS and not is_of_block(name)}
        values = {**NEUTRAL, **own}
        if not own.keys() & (OF_RANKER.keys() - set(OF_DENSE)):
            values = {**OF_RANKER, **values}
        elif not own.keys() & OF_LISTS.keys():
            values = {**OF_LISTS, **values}
        for switch, weight in SWITCHES.items():
            if not genes.get(switch, True):
                values[weight] = 0.0
        chosen = [choices[genes[name]] for name, choices in CHOICES.items() if name in genes]
        own_genes = [gene for choice in chosen for gene in choice.gene_names]
        values = {**{name: value for name, value in NEUTRAL_OF_CHOICES.items() if name in own_genes}, **values}
        mechanism = str(values.get("mechanism", ""))
        _check_names(mechanism, values, own_genes)
        choice = MECHANISMS[mechanism]
        wanted = choice.has_task_tables or bool(values.pop("task_embeddings", False))
        depth = values.pop("sharing_depth", values.pop("expert_depth", 0))
        return cls(
            **{
                **{name: value for name, value in values.items() if name not in own_genes},
                "sharing_depth": depth,
                "task_embeddings": wanted and "task_embeddings" not in choice.idle_genes(genes),
                "task_weights": tuple(values["task_weights"]),
                "settings": tuple(sorted((name, values[name]) for name in own_genes if name in values)),
                **_block_settings(genes),
            }
        )

    @property
    def group_key(self) -> tuple[Value, ...]:
        """Members of equal key share every batched product; those of a ragged mechanism may differ in depth."""
        choice = MECHANISMS[self.mechanism]
        own = (value for name, value in self.settings if name in choice.gene_names)
        inside = () if choice.is_ragged else (self.sharing_depth, *own)
        # A member that balances by gradients would cost its whole group a backward pass per task.
        by_gradient = BALANCINGS[self.balancing].needs_gradients
        family = choice.family or self.mechanism
        same = (self.embedding_dim, self.width, self.task_embeddings, self.ensemble_heads, self.target_attention)
        return (family, *same, by_gradient, *inside)

    @property
    def attends(self) -> bool:
        """Whether the ranker reads the user's past."""
        return self.target_attention != "none"


NEGATIVE_SOURCES = ("batch", "uniform")
ATTENTIONS = ("none", "softmax", "sigmoid")
NEUTRAL: Mapping[str, Any] = MappingProxyType(
    {
        "negative_source": "batch",
        "pretrained": False,
        "new_item_popularity": 0.0,
        "popularity_half_life": 1.0,
        "ema": 0.0,
        "ensemble_heads": 1,
        "encoder": "bag",
        "bag_decay": 1.0,
        "user_vector": True,
        "item_item": "none",
        "item_item_share": 1.0,
        "past_decay": 1.0,
        "past_half_life": math.inf,
        "id_dropout": 0.0,
        "target_attention": "none",
        "graph_layers": 0,
        "graph_trained": False,
    }
)
"""Values of the genes that some data do not have, and of optional genes that a configuration does not name."""
OF_DESCRIPTIONS = ("content_weight", "content_popularity")
"""Genes of item-item scores that read the features and the content of items."""
NEUTRAL_OF_CHOICES: Mapping[str, Any] = MappingProxyType({name: ITEM_ITEM_DEFAULTS[name] for name in OF_DESCRIPTIONS})
"""The same of genes that only a chosen kind of item-item scores reads."""
OF_RANKER: Mapping[str, Any] = MappingProxyType({
    "task_weights": (), "mechanism": "shared_bottom", "balancing": "fixed", "width": 2,
    "dropout": 0.0, "retrieval_weight": 1.0, "rank_blend": 0.0, "learning_rate": 1e-3, "dense_decay": 0.0,
})  # fmt: skip
"""Values of the genes of the ranker where there is none."""
OF_LISTS: Mapping[str, Any] = MappingProxyType({
    "retrieval_weight": 0.0, "retrieval_loss": "softmax", "negatives": 1, "temperature": 1.0, "history_weight": 0.0,
    "popularity_weight": 0.0, "popularity_smoothing": 1.0, "rank_blend": 0.0,
})  # fmt: skip
"""Values of the genes of retrieval and lists where the data have no items."""
OF_DENSE = ("learning_rate", "dense_decay")
"""Of these genes, those that there are without a ranker, too, where items have content."""
CHOICES: Mapping[str, Registry[Any]] = MappingProxyType(
    {
        "mechanism": MECHANISMS,
        "balancing": BALANCINGS,
        "optimizer": OPTIMIZERS,
        "retrieval_loss": RETRIEVAL_LOSSES,
        "encoder": ENCODERS,
        "item_item": ITEM_ITEMS,
    }
)
"""Genes whose values are registered by name."""

SWITCHES = {"history": "history_weight", "rerank": "rank_blend"}
"""Boolean genes -> the weight that is 0 when they are off."""
NO_FIELDS = (*SWITCHES, "item_item_blend")
"""Boolean genes that are no settings of their own. Without a blend `item_item_share` is 1."""

USE, RANK = "use_", "rank_"
"""Prefixes of the genes of a block: whether it is on, and the rank of its projection."""
RANKS = (0, 2, 4, 8, 16)
"""Ranks of the projection of a part of the content; 0 = full."""
USED = 0.8
"""Share of the random genomes in which a block is on: without half of its features a model is a poor start."""

FEWEST_NEGATIVES, MOST_NEGATIVES = 16, 512
"""Range in which the number of negatives is searched, where the batch is as large."""


def is_of_block(gene: str) -> bool:
    """Whether a gene switches a block of the input, or sets the rank of its projection, by its name.

    Example:
        >>> [name for name in ("use_city", "rank_text", "rank_blend", "width") if is_of_block(name)]
        ['use_city', 'rank_text']
    """
    return gene.startswith((USE, RANK)) and gene != "rank_blend"


def _block_settings(genes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings `off` and `ranks` from the genes of the blocks.

    Raises:
        ConfigError: a value is of the wrong kind.
    """
    used = {name.removeprefix(USE): value for name, value in genes.items() if name.startswith(USE)}
    ranks = {name.removeprefix(RANK): genes[name] for name in genes if is_of_block(name) and name.startswith(RANK)}
    for name, value in used.items():
        if not isinstance(value, bool):
            raise ConfigError(f"{USE}{name} must be true or false, got {value!r}.")
    for name, rank in ranks.items():
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 0:
            raise ConfigError(f"{RANK}{name} must be a whole number, 0 = full, got {rank!r}.")
    return {
        "off": tuple(sorted(name for name, value in used.items() if not value)),
        "ranks": tuple(sorted((name, rank) for name, rank in ranks.items() if rank and used.get(name, True))),
    }


def _check_names(mechanism: str, values: Mapping[str, Any], own_genes: Sequence[str]) -> None:
    """All settings of a mechanism and no others.

    Raises:
        ConfigError: lists the missing and the unknown settings.
    """
    derived = {"sharing_depth", "task_embeddings", "settings", "off", "ranks"}
    expected = {field.name for field in fields(ModelSpec)} - derived | set(own_genes)
    missing, unknown = sorted(expected - set(values)), sorted(set(values) - expected)
    if missing or unknown:
        of = f" with mechanism {mechanism} and retrieval_loss {values.get('retrieval_loss')}" if mechanism else ""
        raise ConfigError(f"a model spec{of} needs exactly {sorted(expected)}; missing {missing}, unknown {unknown}")


def default_space(
    tasks: tuple[str, ...],
    *,
    n_layers: int,
    days: float,
    funnel: bool,
    uniform_negatives: int,
    retrieval_batch: int,
    blocks: Sequence[InputBlock] = (),
    search_blocks: bool = True,
    new_items: bool = False,
    is_ordered: bool = True,
    is_described: bool = True,
    has_items: bool = True,
) -> SearchSpace:
    """The search space of the multi-task recommender; the default genome is a shared bottom with fixed weights.

    Args:
        tasks: names of the ranked tasks; empty = retrieval only, and genes of the ranker are left out.
        n_layers: L >= 1, upper bound of the sharing depth.
        days: length of the training log in days; the half-life of popularity is searched around it. 0 = the log has no
            times, and there is no such gene.
        funnel: whether a task implies another task; adds the mechanisms that need it.
        uniform_negatives: uniformly drawn items of a step; 0 = negatives come from the batch alone.
        retrieval_batch: target positives of a step, which bound the negatives.
        blocks: of the input; each can be switched off.
        search_blocks: whether the search does; else their genes are fixed, and a configuration may fix another value.
        new_items: whether the catalogue has items without a training row; adds the gene of their popularity.
        is_ordered: whether the log has an order in time; without it there are no encoders of sequences.
        is_described: whether items have features or content, by which item-item scores may find them alike.
        has_items: False = rows without users and items: genes of retrieval and lists are left out.
    """
    mechanisms = [choice for choice in ordered(MECHANISMS) if funnel or not choice.needs_funnel]
    # The power of two at or above the batch: more negatives than that change nothing.
    most = min(MOST_NEGATIVES, 1 << (retrieval_batch - 1).bit_length())
    text = "negatives of each positive, at most"
    negatives: Gene = Fixed("negatives", most, text=text)
    if most > FEWEST_NEGATIVES:
        limits = (1, 65_536)
        negatives = Integer("negatives", FEWEST_NEGATIVES, most, scale="log2", default=most, limits=limits, text=text)
    source = Categorical("negative_source", NEGATIVE_SOURCES, "batch", text="other positives, or items drawn uniformly")
    newcomers = Real(
        "new_item_popularity", 0.0, 1.0, default=0.0, limits=(0.0, 1.0),
        text="quantile of the shown items' popularity that an item without a training row counts with",
    )  # fmt: skip

    average = Real(
        "ema", 0.9, 0.995, default=0.95, limits=(0.0, 0.99999),
        text="decay per step of the moving average of the weights that is measured and stored; 0 = the last weights",
    )  # fmt: skip

    def half_life(days: float) -> Gene:
        return Real(
            "popularity_half_life", days / 8, days * 8, scale="log", default=days, unit="days", limits=POSITIVE,
            text="age at which a positive counts half in the popularity prior",
        )  # fmt: skip

    def chosen(name: str, choices: Sequence[Choice], default: str, text: str) -> list[Gene]:
        return _choice_genes(name, choices, default, text, n_layers=n_layers)

    encoders = [choice for choice in ordered(ENCODERS) if is_ordered or not choice.is_sequence]
    sequences = tuple(choice.name for choice in encoders if choice.is_sequence)
    encoder = chosen("encoder", encoders, "bag", "how the past becomes a vector: a bag, or an encoder of its order")
    encoder[0] = replace(encoder[0], condition=When("history", (True,)), optional=True)
    encoder.append(
        Real(
            "bag_decay", 0.5, 1.0, default=1.0, limits=(0.0, 1.0), optional=True, condition=When("encoder", ("bag",)),
            text="factor of a past positive's weight for every later positive",
        )
    )  # fmt: skip
    if sequences:
        text = "the user's own vector enters the retrieval vector besides the encoded past"
        encoder.append(Boolean("user_vector", default=True, text=text, condition=When("encoder", sequences)))

    dense: tuple[Gene, ...] = (
        log_gene("learning_rate", 5e-4, 1e-2, 3e-3, "step size of the dense parts"),
        log_gene("dense_decay", 1e-3, 1e1, 1e-2, "decoupled weight decay of the dense weights"),
    )
    if not tasks and not any(block.is_content for block in blocks):
        # Without a ranker, only the projections of content and the encoder of the past are dense.
        encoder += [replace(gene, condition=When("encoder", sequences)) for gene in dense] if is_ordered else []
        dense = ()
    ranker = () if not tasks else (
        Simplex("task_weights", parts=tasks, text="loss weight of each task"),
        *chosen("mechanism", mechanisms, "shared_bottom", "how tasks share; esmm and aitm need tasks.funnel"),
        *chosen("balancing", ordered(BALANCINGS), "fixed", "how the losses of the tasks are balanced"),
    )  # fmt: skip
    of_past: tuple[Gene, ...] = (
        Categorical(
            "target_attention", ATTENTIONS, "none", optional=True,
            text="how the ranker weighs the user's past positives by their likeness to the item",
        ),
    )  # fmt: skip
    layers = () if not tasks else (
        Integer("width", 16, 64, scale="log2", default=32, limits=(2, 4096), text="units per layer"),
        Real("dropout", 0.0, 0.5, default=0.1, limits=(0.0, 0.95), text="rate after embeddings and layers"),
        *(of_past if has_items else ()),
        Integer(
            "ensemble_heads", 1, 4, default=1, limits=(1, 64),
            text="models in one: heads of each task that share all layers, whose predictions are averaged",
        ),
    )  # fmt: skip
    rerank = () if not (tasks and has_items) else (
        Boolean("rerank", default=False, text="the ranker re-orders the retrieved candidates"),
        log_gene(
            "rank_blend", 0.03, 1.0, 0.2, "weight of the ranker in the list score", condition=When("rerank", (True,))
        ),
    )  # fmt: skip
    lists: tuple[Gene, ...] = (
        *([log_gene("retrieval_weight", 1e-1, 1e1, 1.0, "weight of the retrieval loss")] if tasks else []),
        *chosen("retrieval_loss", ordered(RETRIEVAL_LOSSES), "softmax", "loss of a positive and its negatives"),
        negatives,
        *([source] if uniform_negatives else []),
        log_gene("temperature", 0.05, 0.5, 0.2, "divides the cosine of user and item"),
        Boolean("history", default=True, text="past positives enter the user's retrieval vector"),
        log_gene(
            "history_weight", 0.3, 30.0, 3.0, "share of the past in the retrieval vector",
            condition=When("history", (True,)),
        ),
        *encoder,
        Real(
            "popularity_weight", 0.0, 1.5, default=1.0, limits=(-10.0, 10.0),
            text="share of log popularity in the retrieval score; less covers more items",
        ),
        log_gene("popularity_smoothing", 0.3, 30.0, 3.0, "positives added to every item in the popularity prior"),
        *([half_life(days)] if days else []),
        *([newcomers] if new_items else []),
        *_item_item_genes(days, n_layers=n_layers, is_described=is_described),
        Real(
            "id_dropout", 0.0, 0.7, default=0.0, limits=(0.0, 0.99),
            text="share of the ids of users and items that a training step hides, so that features count",
        ),
        Integer(
            "graph_layers", 0, 3, default=0, limits=(0, 3), optional=True,
            text="layers of the graph of positives that smooth the ids of users and items, as in LightGCN",
        ),
        Boolean(
            "graph_trained", default=False, condition=When("graph_layers", (1, 2, 3)), optional=True,
            text="training goes through the graph layers; else they are put on the trained ids",
        ),
        *rerank,
    )  # fmt: skip
    return SearchSpace((
        *ranker,
        Integer("embedding_dim", 8, 32, scale="log2", default=16, limits=(2, 1024), text="length of the vectors"),
        *layers,
        *chosen("optimizer", ordered(OPTIMIZERS), "adamw", "adafactor keeps row and column means of squares"),
        *dense[:1],
        log_gene("embedding_learning_rate", 5e-4, 1e-2, 3e-3, "step size of the embedding table"),
        log_gene("embedding_decay", 1e-3, 1e1, 1e-2, "decoupled weight decay of the embedding table"),
        *dense[1:],
        average,
        *(lists if has_items else ()),
        *_block_genes(blocks, is_open=search_blocks),
    ))  # fmt: skip


def _item_item_genes(days: float, *, n_layers: int, is_described: bool) -> list[Gene]:
    """The gene `item_item`, and under it how the past fades, the blend and the genes of the kinds."""
    kinds = ordered(ITEM_ITEMS)
    text = "scores of items by the items of the user's past"
    first, *own = _choice_genes("item_item", kinds, "none", text, n_layers=n_layers)
    used = When("item_item", tuple(kind.name for kind in kinds if kind.name != "none"))
    fading: list[Gene] = [
        Real(
            "past_decay", 0.3, 1.0, default=0.8, limits=(1e-6, 1.0), condition=used,
            text="weight of an item of the past per step back in the item-item scores; 1 = no fading",
        ),
    ]  # fmt: skip
    if days:
        fading.append(Real(
            "past_half_life", days / 64, days * 64, scale="log", default=days * 64, unit="days",
            limits=(1e-9, math.inf), condition=used,
            text="age behind the latest item at which an item of the past counts half",
        ))  # fmt: skip
    return [
        first,
        Boolean(
            "item_item_blend", default=True, condition=used,
            text="the vectors share the retrieval score with the item-item scores",
        ),
        Real(
            "item_item_share", 0.02, 0.98, default=0.7, limits=(0.0, 1.0), condition=When("item_item_blend", (True,)),
            text="share of the item-item scores in the retrieval score",
        ),
        *fading,
        *(gene for gene in own if is_described or gene.name not in OF_DESCRIPTIONS),
    ]  # fmt: skip


def _choice_genes(name: str, choices: Sequence[Choice], default: str, text: str, *, n_layers: int) -> list[Gene]:
    """A gene whose values are the names of the choices, and under it the genes of the choices."""
    own = {gene.name: gene for choice in choices for gene in choice.genes(n_layers)}
    usual, optional = (tuple(c.name for c in choices if c.optional is is_optional) for is_optional in (False, True))
    out: list[Gene] = [Categorical(name, usual, default, optional_options=optional, text=text)]
    for gene in merged(choice.gene_names for choice in choices):
        users = tuple(choice.name for choice in choices if gene in choice.gene_names)
        out.append(replace(own[gene], condition=When(name, users)))
    return out


def _block_genes(blocks: Sequence[InputBlock], *, is_open: bool) -> list[Gene]:
    """A switch for each block, the rank of each part of the content, and where the items' rows start."""
    out: list[Gene] = []

    def gene(one: Gene) -> Gene:
        return one if is_open else one.fixed(one.default)

    for block in blocks:
        what = f"{block.field} as content of the items" if block.is_content else f"{block.side} feature {block.field}"
        out.append(gene(Boolean(USE + block.name, default=True, text=f"the model sees {what}", chance=USED)))
        ranks = tuple(rank for rank in RANKS if rank < block.size)
        if block.is_content and len(ranks) > 1:
            text, when = f"rank of the projection of {what}; 0 = full", When(USE + block.name, (True,))
            out.append(gene(Categorical(RANK + block.name, ranks, 0, text=text, condition=when)))
    if any(block.is_content and block.field == COOCCURRENCE for block in blocks):
        text = "the items' rows start from their co-occurrence vectors, not from noise"
        out.append(gene(Boolean("pretrained", default=False, text=text)))
    return out
