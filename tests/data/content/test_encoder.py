from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from evorec.config import DataConfig
from evorec.data.content import encoder
from evorec.data.content.encoder import folder_sha256, sentence_vectors
from evorec.data.content.sources import item_vectors
from evorec.data.tables import Columns, Tables
from evorec.errors import ConfigError, DataError

ROUNDING = 1e-5  # float32 sums in another order, with and without padding
TEXTS = ["red fish", "", "blue fish swims", "red fish", "unseen words here and there"]
WORDS = ("red", "blue", "fish", "swims", "words")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random transformer of one layer with its tokenizer, saved as a published one is."""
    transformers = pytest.importorskip("transformers", reason="the extra text is not installed")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: number for number, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.BertModel(config)
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def encoded(texts: list[str], folder: Path, max_tokens: int = 128) -> np.ndarray:
    return sentence_vectors(texts, folder, max_tokens=max_tokens, where="here")


def one_by_one(text: str, folder: Path, max_tokens: int = 128) -> np.ndarray:
    """The mean over the words of one text, without any padding."""
    from transformers import AutoModel, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    ids = ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0]
    return np.asarray(states.mean(dim=0))


def test_vectors_are_means_over_the_words(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "BATCH", 2)
    found = encoded(TEXTS, model_folder)
    assert found.shape == (5, 16)
    assert found.dtype == np.float32
    assert not found[1].any()
    for place in (0, 2, 3, 4):
        np.testing.assert_allclose(found[place], one_by_one(TEXTS[place], model_folder), atol=ROUNDING)


def test_a_long_text_is_cut_off(model_folder: Path) -> None:
    long = " ".join(["red", "fish"] * 40)
    np.testing.assert_allclose(encoded([long], model_folder, 8)[0], one_by_one(long, model_folder, 8), atol=ROUNDING)
    # 32 positions are all that the model has
    np.testing.assert_array_equal(encoded([long], model_folder, 500), encoded([long], model_folder, 32))


def test_a_configured_encoder_makes_vectors_of_items(model_folder: Path) -> None:
    log = pl.DataFrame({Columns.USER: [1], Columns.ITEM: [7], Columns.TIME: [0], "click": [1]})
    items = pl.DataFrame({Columns.ITEM: [7, 8, 9], "title": ["red fish", "blue fish", None]})
    tables = Tables("t", log, ("click",), items=items)
    for dims, width in ((64, 16), (1, 1)):
        source = {"kind": "encoder", "columns": ["title"], "path": str(model_folder), "dims": dims}
        config = DataConfig.model_validate({"content": {"plot": source}})
        (part,) = item_vectors(tables, config.content, Path)
        assert (part.name, part.ids.to_list(), part.values.shape) == ("plot", [7, 8, 9], (3, width))
        assert part.values.any(axis=1).tolist() == [True, True, False]


def test_the_hash_is_of_the_files_not_of_the_place(model_folder: Path, tmp_path: Path) -> None:
    for path in model_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert folder_sha256(tmp_path) == folder_sha256(model_folder)
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text() + " ")
    assert folder_sha256(tmp_path) != folder_sha256(model_folder)


def test_empty_texts_are_refused(model_folder: Path) -> None:
    with pytest.raises(DataError, match="here: all texts are empty"):
        encoded(["", ""], model_folder)


@pytest.mark.parametrize("damaged", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_model_is_refused(damaged: str, model_folder: Path, tmp_path: Path) -> None:
    for path in model_folder.iterdir():
        (tmp_path / path.name).write_bytes(b"nonsense" if path.name == damaged else path.read_bytes())
    with pytest.raises(DataError, match=r"here: .* cannot be loaded: "):
        encoded(TEXTS, tmp_path)


def test_weights_that_are_not_there_are_not_made_up(model_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for path in model_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(model_folder / "model.safetensors")
    del weights["pooler.dense.bias"]  # nothing reads it
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_array_equal(encoded(TEXTS, tmp_path), encoded(TEXTS, model_folder))
    del weights["embeddings.word_embeddings.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"lacks weights of the model, e\.g\. embeddings\.word_embeddings\.weight"):
        encoded(TEXTS, tmp_path)


def test_a_tokenizer_that_cannot_pad_is_refused(model_folder: Path, tmp_path: Path) -> None:
    for path in model_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(
        DataError, match="must hold an encoder without decoder, with a tokenizer that can pad short texts"
    ):
        encoded(TEXTS, tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be the folder of a model with its tokenizer.*has no config\.json"):
        folder_sha256(tmp_path)


def test_without_the_extra_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked: dict[str, Any] = dict.fromkeys(("transformers", "transformers.utils"))
    for name, nothing in blocked.items():
        monkeypatch.setitem(sys.modules, name, nothing)
    with pytest.raises(ConfigError, match=r"here needs transformers; install it with: pip install 'evorec\[text\]'"):
        encoded(TEXTS, tmp_path)
