"""The weights of a checkpoint in the form that peers take: CTranslate2's specification, Hugging Face's modules.

Both need sinusoidal positions, scaled dot products, ReLU, and one vocabulary with all three tables tied.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transformer.build import Loaded
from transformer.special import BOS, EOS, PAD, UNK


def unfit(loaded: Loaded) -> str | None:
    """Why a checkpoint's model cannot be expressed by the peers; None if it can."""
    config = loaded.config.model
    facts = {
        "sinusoidal positions": config.position["_target_"].endswith("Sinusoidal"),
        "scaled dot products": config.score["_target_"].endswith("ScaledDot"),
        "the ReLU": config.activation == "relu",
        "one vocabulary, all tables tied": config.tying == "three",
    }
    missing = [name for name, there in facts.items() if not there]
    return f"the model lacks {', '.join(missing)}" if missing else None


def token(id_: int) -> str:
    """A name for an id, the same in every peer."""
    return {PAD: "<pad>", UNK: "<unk>", BOS: "<s>", EOS: "</s>"}.get(id_, str(id_))


def to_ctranslate2(loaded: Loaded, folder: Path) -> None:
    """Writes a CTranslate2 model, float32."""
    from ctranslate2.specs import TransformerSpec
    from ctranslate2.specs.common_spec import Activation

    config, weights = loaded.config.model, loaded.model.state_dict()
    layers = config.n_encoder_layers, config.n_decoder_layers
    spec: Any = TransformerSpec.from_config(
        layers, config.n_heads, pre_norm=config.norm == "pre", activation=Activation.RELU
    )

    def linear(target: Any, name: str) -> None:
        target.weight, target.bias = weights[f"{name}.weight"].numpy(), weights[f"{name}.bias"].numpy()

    def norm(target: Any, name: str) -> None:
        target.gamma, target.beta = weights[f"{name}.weight"].numpy(), weights[f"{name}.bias"].numpy()

    position: Any = loaded.model.src_embedding.position
    for side, name in ((spec.encoder, "encoder"), (spec.decoder, "decoder")):
        table = weights["src_embedding.tokens.weight"].numpy()
        (side.embeddings[0] if name == "encoder" else side.embeddings).weight = table
        side.scale_embeddings = True
        side.position_encodings.encodings = position.table.numpy()
        if config.norm == "pre":
            norm(side.layer_norm, f"{name}_norm")
        for i, layer in enumerate(side.layer):
            ours = f"{name}_layers.{i}"
            linear(layer.self_attention.linear[0], f"{ours}.self_attention.qkv")
            linear(layer.self_attention.linear[1], f"{ours}.self_attention.out")
            norm(layer.self_attention.layer_norm, f"{ours}.residuals.0.norm")
            last = 1
            if name == "decoder":
                linear(layer.attention.linear[0], f"{ours}.cross_attention.query")
                linear(layer.attention.linear[1], f"{ours}.cross_attention.key_value")
                linear(layer.attention.linear[2], f"{ours}.cross_attention.out")
                norm(layer.attention.layer_norm, f"{ours}.residuals.1.norm")
                last = 2
            linear(layer.ffn.linear_0, f"{ours}.feed_forward.inner")
            linear(layer.ffn.linear_1, f"{ours}.feed_forward.out")
            norm(layer.ffn.layer_norm, f"{ours}.residuals.{last}.norm")
    spec.decoder.projection.weight = weights["output.weight"].numpy()
    spec.decoder.projection.bias = np.zeros(len(weights["output.weight"]), dtype=np.float32)
    names = [token(id_) for id_ in range(loaded.tokenizers.tgt.vocab_size)]
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = "<s>", "</s>", "<unk>"
    spec.config.decoder_start_token = "<s>"
    spec.config.add_source_bos, spec.config.add_source_eos = False, True
    spec.config.layer_norm_epsilon = 1e-5
    spec.validate()
    spec.optimize(quantization=None)
    folder.mkdir(parents=True)
    spec.save(str(folder))


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
