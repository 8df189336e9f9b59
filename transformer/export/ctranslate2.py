"""A model for CTranslate2, an engine in C++ that only translates: weights, vocabularies, the proof that it agrees."""

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from transformer.decoding.scorer import token_log_probs
from transformer.decoding.translator import padded
from transformer.error import UserError
from transformer.model.layers import DecoderLayer, EncoderLayer
from transformer.model.normalizer import Soft
from transformer.model.position.learned import Learned
from transformer.model.position.rotary import Rotary
from transformer.model.position.sinusoidal import Sinusoidal
from transformer.model.score import ScaledDot
from transformer.model.transformer import Transformer
from transformer.special import BOS, EOS, PAD, TOKENS, UNK

ACTIVATIONS = {"relu": "RELU", "gelu": "GELU", "silu": "SWISH"}
QUANTIZATIONS = ("int8", "int8_float32", "int16", "float16", "bfloat16")
TOLERANCE = 1e-3  # of a token's log-probability; float32 sums in another order are worth some 1e-5


def unfit(model: Transformer) -> str | None:
    """What of a model CTranslate2 does not know, in words; None where it knows all."""
    mix = cast(DecoderLayer, model.decoder_layers[0]).self_attention.mix
    facts = {
        "positions (sinusoidal, learned and rotary are)": type(model.src_embedding.position)
        in (Sinusoidal, Learned, Rotary),
        "scoring function (scaled dot products are)": type(mix.score) is ScaledDot,
        "normalizer (soft attention is)": type(mix.normalizer) is Soft,
    }
    unknown = [name for name, known in facts.items() if not known]
    return f"its {' and its '.join(unknown)} not known to CTranslate2" if unknown else None


def _array(tensor: Tensor) -> "np.ndarray[Any, Any]":
    """float32 in C's order, for a model that translates has its matrices by column; a copy, which may be quantized."""
    return np.array(tensor.detach().cpu().float().numpy(), order="C")


def _specification(model: Transformer) -> Any:
    """CTranslate2's description of a model of this shape, without weights."""
    from ctranslate2.specs import TransformerDecoderSpec, TransformerEncoderSpec, TransformerSpec
    from ctranslate2.specs.common_spec import Activation

    shape = model.shape
    common: dict[str, Any] = {
        "pre_norm": shape.norm == "pre",
        "activation": getattr(Activation, ACTIVATIONS[shape.activation]),
    }
    if isinstance(model.src_embedding.position, Rotary):
        # Our pairs are x_i and x_{i + d_head/2}.
        common |= {"rotary_dim": shape.d_model // shape.n_heads, "rotary_interleave": False}
    encoder = TransformerEncoderSpec(len(model.encoder_layers), shape.n_heads, **common)
    return TransformerSpec(encoder, TransformerDecoderSpec(len(model.decoder_layers), shape.n_heads, **common))


def _linear(spec: Any, linear: Any) -> None:
    spec.weight, spec.bias = _array(linear.weight), _array(linear.bias)


def _norm(spec: Any, norm: Any) -> None:
    spec.gamma, spec.beta = _array(norm.weight), _array(norm.bias)


def _fill_layer(spec: Any, layer: EncoderLayer | DecoderLayer) -> None:
    """The weights of one layer."""
    _linear(spec.self_attention.linear[0], layer.self_attention.qkv)
    _linear(spec.self_attention.linear[1], layer.self_attention.out)
    norms = [spec.self_attention.layer_norm]
    if isinstance(layer, DecoderLayer):
        attention = layer.cross_attention
        for part, linear in zip(
            spec.attention.linear, (attention.query, attention.key_value, attention.out), strict=True
        ):
            _linear(part, linear)
        norms.append(spec.attention.layer_norm)
    _linear(spec.ffn.linear_0, layer.feed_forward.inner)
    _linear(spec.ffn.linear_1, layer.feed_forward.out)
    for norm, residual in zip([*norms, spec.ffn.layer_norm], layer.residuals, strict=True):
        _norm(norm, residual.norm)


def _fill(spec: Any, model: Transformer) -> None:
    """All weights."""
    sides: list[tuple[Any, Any, Any, Any]] = [
        (spec.encoder, model.src_embedding, model.encoder_layers, model.encoder_norm),
        (spec.decoder, model.tgt_embedding, model.decoder_layers, model.decoder_norm),
    ]
    for side, embedding, layers, norm in sides:
        tables = side.embeddings
        (tables[0] if isinstance(tables, list) else tables).weight = _array(embedding.tokens.weight)
        side.scale_embeddings = True
        if isinstance(embedding.position, (Sinusoidal, Learned)):
            side.position_encodings.encodings = _array(embedding.position.table)
        if model.shape.norm == "pre":
            _norm(side.layer_norm, norm)
        for part, layer in zip(side.layer, layers, strict=True):
            _fill_layer(part, layer)
    spec.decoder.projection.weight = _array(model.output.weight)
    spec.decoder.projection.bias = np.zeros(len(model.output.weight), dtype=np.float32)


def save(
    model: Transformer, src_tokens: Sequence[str], tgt_tokens: Sequence[str], folder: Path, quantization: str | None
) -> None:
    """Writes a model that `ctranslate2.Translator` opens.

    Args:
        model: with positions, scores and weights that CTranslate2 knows.
        src_tokens: the spelling of each source id.
        tgt_tokens: of each target id.
        folder: exists.
        quantization: one of QUANTIZATIONS; None keeps float32.

    Raises:
        UserError: the package is missing, the model is unfit, or there is no such quantization.
    """
    if importlib.util.find_spec("ctranslate2") is None:
        raise UserError("this needs the package ctranslate2: pip install 'transformer[ctranslate2]'")
    if reason := unfit(model):
        raise UserError(f"this model cannot be exported: {reason}")
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise UserError(f"quantization is {quantization}, but must be null or one of {', '.join(QUANTIZATIONS)}")
    spec = _specification(model)
    _fill(spec, model)
    spec.register_source_vocabulary(list(src_tokens))
    spec.register_target_vocabulary(list(tgt_tokens))
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = TOKENS[BOS], TOKENS[EOS], TOKENS[UNK]
    spec.config.decoder_start_token = TOKENS[BOS]
    spec.config.add_source_bos, spec.config.add_source_eos = False, True
    spec.config.layer_norm_epsilon = next(m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm))
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))


def difference(
    model: Transformer, src_tokens: Sequence[str], tgt_tokens: Sequence[str], folder: Path, n_pairs: int = 64
) -> tuple[float, float]:
    """How far an exported model is from ours, over pairs of random tokens, which ask all of a model that text asks.

    Args:
        model: in evaluation mode, on the CPU.
        src_tokens, tgt_tokens: see `save`.
        folder: what `save` wrote.
        n_pairs: pairs of 1 to 24 tokens a side, the same ones every time.

    Returns:
        the largest and the mean absolute difference of a target token's log-probability, EOS included.
    """
    import ctranslate2

    random = np.random.default_rng(0)
    most = min(24, model.max_len - 1)

    def drawn(n_tokens: int) -> list[int]:
        return [int(i) for i in random.integers(len(TOKENS), n_tokens, size=random.integers(1, most + 1))]

    sources = [drawn(len(src_tokens)) for _ in range(n_pairs)]
    targets = [drawn(len(tgt_tokens)) for _ in range(n_pairs)]
    src, tgt = (padded([[*ids, EOS] for ids in side]) for side in (sources, targets))
    with torch.inference_mode():
        ours = token_log_probs(model, src, src == PAD, tgt)
    ctranslate2.set_log_level(logging.ERROR)  # it warns of each number format that this processor has not
    engine = ctranslate2.Translator(str(folder), device="cpu", compute_type="default")
    theirs = engine.score_batch(
        [[src_tokens[i] for i in ids] for ids in sources], [[tgt_tokens[i] for i in ids] for ids in targets]
    )
    gaps = [
        np.abs(np.asarray(score.log_probs) - row[: len(ids) + 1].numpy())
        for score, row, ids in zip(theirs, ours, targets, strict=True)
    ]
    together = np.concatenate(gaps)
    return float(together.max()), float(together.mean())
