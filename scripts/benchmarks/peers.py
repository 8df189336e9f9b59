"""The weights of a checkpoint in the form that peers take: CTranslate2's, and Hugging Face's modules."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from transformer.build import Loaded
from transformer.export import ctranslate2
from transformer.export.ctranslate2 import save
from transformer.model.transformer import Transformer
from transformer.special import BOS, EOS, PAD, UNK


def unfit(loaded: Loaded, peer: str) -> str | None:
    """Why a checkpoint's model cannot be expressed by CTranslate2 or Hugging Face; None if it can."""
    config = loaded.config.model
    if config.tying != "three":
        return "the model lacks one vocabulary with all tables tied"
    if peer.startswith("CTranslate2"):
        return ctranslate2.unfit(cast(Transformer, loaded.model))
    facts = {
        "sinusoidal positions": config.position["_target_"].endswith("Sinusoidal"),
        "scaled dot products": config.score["_target_"].endswith("ScaledDot"),
        "the ReLU": config.activation == "relu",
    }
    missing = [name for name, there in facts.items() if not there]
    return f"the model lacks {', '.join(missing)}" if missing else None


def token(id_: int) -> str:
    """A name for an id, the same in every peer."""
    return {PAD: "<pad>", UNK: "<unk>", BOS: "<s>", EOS: "</s>"}.get(id_, str(id_))


def to_ctranslate2(loaded: Loaded, folder: Path) -> None:
    """Writes a CTranslate2 model, float32, whose tokens are named after their ids."""
    names = [token(id_) for id_ in range(loaded.tokenizers.tgt.vocab_size)]
    folder.mkdir(parents=True)
    save(cast(Transformer, loaded.model), names, names, folder, None)


def to_huggingface(loaded: Loaded) -> torch.nn.Module:
    """The same model as Hugging Face's Marian (post-norm) or Pegasus (pre-norm), in evaluation mode."""
    import transformers

    config, n = loaded.config.model, loaded.tokenizers.tgt.vocab_size
    pre = config.norm == "pre"
    shape = {
        "vocab_size": n,
        "d_model": config.d_model,
        "encoder_layers": config.n_encoder_layers,
        "decoder_layers": config.n_decoder_layers,
        "encoder_attention_heads": config.n_heads,
        "decoder_attention_heads": config.n_heads,
        "encoder_ffn_dim": config.d_ff,
        "decoder_ffn_dim": config.d_ff,
        "activation_function": "relu",
        "scale_embedding": True,
        "max_position_embeddings": config.max_len,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "decoder_start_token_id": BOS,
        "forced_eos_token_id": None,
        "tie_word_embeddings": True,
    }
    kind = "Pegasus" if pre else "Marian"
    made: Any = getattr(transformers, f"{kind}Config")(**shape)
    built: Any = getattr(transformers, "PegasusForConditionalGeneration" if pre else "MarianMTModel")(made)
    built.load_state_dict(_renamed(loaded, built.state_dict()), strict=True)
    return built.eval()


def _renamed(loaded: Loaded, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their names."""
    ours, d_model = loaded.model.state_dict(), loaded.config.model.d_model
    position: Any = loaded.model.src_embedding.position
    found: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        parts = name.removeprefix("model.").split(".")
        if name.endswith("final_logits_bias"):
            found[name] = torch.zeros_like(tensor)
        elif "embed_positions" in name:
            found[name] = position.table[: tensor.size(0)]
        elif "embed_tokens" in name or "shared" in name or name.startswith("lm_head"):
            found[name] = ours["output.weight"]
        elif parts[1] == "layer_norm":
            found[name] = ours[f"{parts[0]}_norm.{parts[2]}"]
        else:
            found[name] = _of_layer(ours, parts, d_model)
    return found


def _of_layer(ours: dict[str, Tensor], parts: list[str], d_model: int) -> Tensor:
    side, _, number, *rest = parts
    layer, kind = f"{side}_layers.{number}", rest[-1]
    decoder = side == "decoder"
    plain = {
        "fc1": "feed_forward.inner",
        "fc2": "feed_forward.out",
        "self_attn_layer_norm": "residuals.0.norm",
        "encoder_attn_layer_norm": "residuals.1.norm",
        "final_layer_norm": f"residuals.{2 if decoder else 1}.norm",
    }
    if rest[0] in plain:
        return ours[f"{layer}.{plain[rest[0]]}.{kind}"]
    attention = f"{layer}.{'self_attention' if rest[0] == 'self_attn' else 'cross_attention'}"
    if rest[1] == "out_proj":
        return ours[f"{attention}.out.{kind}"]
    if rest[0] == "encoder_attn" and rest[1] == "q_proj":
        return ours[f"{attention}.query.{kind}"]
    merged = ours[f"{attention}.{'qkv' if rest[0] == 'self_attn' else 'key_value'}.{kind}"]
    order = ["q_proj", "k_proj", "v_proj"] if rest[0] == "self_attn" else ["k_proj", "v_proj"]
    return merged.split(d_model)[order.index(rest[1])]
