"""The model that a config describes."""

import logging
from typing import Any

import torch

from transformer.build.part import explained, instantiate
from transformer.config import MachineConfig, ModelConfig, RuntimeConfig
from transformer.data.tokenizer.base import TokenizerPair, TokenizerTrainer
from transformer.error import UserError
from transformer.model.feedforward import ACTIVATIONS
from transformer.model.layers import LayerShape
from transformer.model.normalizer import Normalizer
from transformer.model.position.base import Position
from transformer.model.score import Score
from transformer.model.transformer import Transformer, Vocabulary

logger = logging.getLogger(__name__)


def model(config: ModelConfig, tokenizers: TokenizerPair, run: MachineConfig) -> Transformer:
    """The model, freshly initialised from torch's random state."""
    parts: dict[str, type] = {"position": Position, "score": Score, "normalizer": Normalizer}
    made: dict[str, Any] = {
        name: instantiate(getattr(config, name), f"model.{name}", kind, partial=True) for name, kind in parts.items()
    }
    if config.activation not in ACTIVATIONS:
        raise UserError(f"model.activation must be one of {', '.join(ACTIVATIONS)}, not {config.activation}")
    for name in ("d_model", "n_heads", "d_ff", "n_encoder_layers", "n_decoder_layers", "max_len"):
        if getattr(config, name) < 1:
            raise UserError(f"model.{name} must be at least 1, not {getattr(config, name)}")
    if config.tying == "three" and not tokenizers.joint:
        raise UserError("model.tying is three, but source and target have a vocabulary each; use model.tying=two")
    with explained("model"):
        shape = LayerShape(
            d_model=config.d_model,
            n_heads=config.n_heads,
            d_ff=config.d_ff,
            norm=config.norm,
            activation=config.activation,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            activation_dropout=config.activation_dropout,
            score=made["score"],
            normalizer=made["normalizer"],
        )
        vocabulary = Vocabulary(tokenizers.src.vocab_size, tokenizers.tgt.vocab_size, config.tying)
        built = Transformer(
            vocabulary,
            shape,
            config.n_encoder_layers,
            config.n_decoder_layers,
            made["position"],
            config.max_len,
        )
    built.use_fast_paths(run.fused_attention, bulk_dropout=True)
    return built


def model_to_train(config: ModelConfig, tokenizers: TokenizerPair, run: RuntimeConfig) -> Transformer:
    """The same, with what matters in training alone."""
    built = model(config, tokenizers, run)
    built.use_fast_paths(run.fused_attention, run.bulk_dropout)
    built.recompute = run.recompute
    return built


def load_pretrained(built: Transformer, tokenizers: TokenizerPair, trainer: TokenizerTrainer) -> None:
    """Copies pretrained word vectors, where the tokenizer is configured with any, into the embeddings."""
    tables = (built.src_embedding.tokens, built.tgt_embedding.tokens)
    for table, vectors, side in zip(tables, trainer.pretrained(tokenizers), ("source", "target"), strict=True):
        if vectors is None:
            continue
        if vectors.weights.size(1) != table.embedding_dim:
            raise UserError(
                f"the pretrained {side} vectors have {vectors.weights.size(1)} dimensions, model.d_model is "
                f"{table.embedding_dim}; make them equal"
            )
        with torch.no_grad():
            # Embeddings are multiplied by sqrt(d_model) when they are read.
            table.weight[vectors.found] = vectors.weights[vectors.found] / table.embedding_dim**0.5
        n_found, n_tokens = int(vectors.found.sum()), len(vectors.found)
        logger.info("%s vocabulary: %d of %d tokens begin with a pretrained vector", side, n_found, n_tokens)
