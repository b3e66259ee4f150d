"""Sentence vectors of a transformer from a folder; needs the extra `text`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from evorec.errors import ConfigError, DataError

BATCH: Final = 64
"""Texts encoded at once."""
CONFIG: Final = "config.json"


def folder_sha256(folder: Path) -> str:
    """Hash of a model: names and contents of the files in its folder, not of folders below.

    Raises:
        DataError: it is not the folder of a model, or a file cannot be read.
    """
    if not (folder / CONFIG).is_file():
        raise DataError(
            f"{folder} must be the folder of a model with its tokenizer, as transformers saves it, and has no {CONFIG}."
        )
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        try:
            with path.open("rb") as file:
                digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    return digest.hexdigest()


def sentence_vectors(texts: Sequence[str], folder: Path, *, max_tokens: int, where: str) -> npt.NDArray[np.float32]:
    """Mean of the last hidden states over the tokens of each text; on the CPU, nothing is trained or downloaded.

    Args:
        texts: ``(N,)``.
        folder: of model and tokenizer, as ``save_pretrained`` of both writes it.
        max_tokens: longer texts are cut off.
        where: begins a message.
    Returns:
        float32 ``(N, d)``; zero for an empty text.
    Raises:
        ConfigError: the extra `text` is not installed.
        DataError: model or tokenizer cannot be loaded.
    Source: Reimers and Gurevych 2019 (mean pooling). Cost: the model's, per text; equal texts count once.
    """
    import torch

    tokenizer, model = _loaded(folder, where)
    width = min(max_tokens, getattr(model.config, "max_position_embeddings", None) or max_tokens)
    different = sorted({text for text in texts if text}, key=lambda text: (len(text), text))  # little padding
    found: dict[str, npt.NDArray[np.float32]] = {}
    with torch.inference_mode():
        for start in range(0, len(different), BATCH):
            batch = different[start : start + BATCH]
            tokens = tokenizer(batch, padding=True, truncation=True, max_length=width, return_tensors="pt")
            states = model(**tokens).last_hidden_state.float()
            mask = tokens["attention_mask"].unsqueeze(-1).float()
            means = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            found |= zip(batch, means.numpy(), strict=True)
    if not found:
        raise DataError(f"{where}: all texts are empty.")
    nothing = np.zeros(len(next(iter(found.values()))), dtype=np.float32)
    return np.stack([found.get(text, nothing) for text in texts])


def _loaded(folder: Path, where: str) -> tuple[Any, Any]:
    """Tokenizer and model, ready to encode."""
    try:
        from transformers.utils import logging
    except ImportError:
        raise ConfigError(
            f"{where} needs transformers; install it with: pip install 'evorec[text]', or use kind = \"text\"."
        ) from None
    shows_progress, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # weights that are missing are looked at below
    try:
        tokenizer, model, missing = _from_folder(folder)
    except Exception as error:  # damaged files raise anything, even a bare Exception
        raise DataError(f"{where}: {folder} cannot be loaded: {str(error).strip().partition(chr(10))[0]}") from None
    finally:
        logging.set_verbosity(verbosity)
        if shows_progress:
            logging.enable_progress_bar()
    if missing:
        raise DataError(f"{where}: {folder} lacks weights of the model, e.g. {missing[0]}; expected all of them.")
    if model.config.is_encoder_decoder or tokenizer.pad_token is None:
        raise DataError(
            f"{where}: {folder} must hold an encoder without decoder, with a tokenizer that can pad short texts."
        )
    return tokenizer, model.eval()


def _from_folder(folder: Path) -> tuple[Any, Any, list[str]]:
    """Tokenizer, model, and the weights that it should have and has not, but for the head that is not read."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model, found = AutoModel.from_pretrained(  # safetensors only: other weight files are pickles
        folder, local_files_only=True, dtype="float32", output_loading_info=True, use_safetensors=True
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model, [key for key in sorted(found["missing_keys"]) if not key.startswith("pooler.")]
