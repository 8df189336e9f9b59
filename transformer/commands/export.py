"""transformer-export: a checkpoint as a folder that CTranslate2 opens, compared with the model before it is there."""

import json
from pathlib import Path

import torch

from transformer import build
from transformer.commands import entry
from transformer.config import ExportConfig, MachineConfig
from transformer.data.aside import written_aside
from transformer.data.tokenizer.base import Directed
from transformer.error import UserError
from transformer.export import ctranslate2
from transformer.model.transformer import Transformer

MACHINE = MachineConfig("cpu", 1, precision="fp32", fused_attention=True, keep_memory=False, arithmetic="auto")
FACTS = "export.json"


def _model(loaded: build.Loaded) -> Transformer:
    """The model, which has SentencePiece's tokens: an engine's user has nothing else to make tokens of text."""
    if loaded.tokenizers.src.kind != "subword":
        raise UserError(f"{loaded.folder} has a {loaded.tokenizers.src.kind} tokenizer; only SentencePiece is exported")
    assert isinstance(loaded.model, Transformer)
    return loaded.model


def run(config: ExportConfig) -> None:
    """Exports, compares, and says how to use what is there."""
    output = Path(config.output)
    if output.exists():
        raise UserError(f"{output} exists; choose another output, or remove it first")
    loaded = build.load(config.checkpoint, MACHINE, torch.device("cpu")).into(config.into)
    model, pair = _model(loaded), loaded.tokenizers
    src_tokens, tgt_tokens = (tokenizer.tokens(range(tokenizer.vocab_size)) for tokenizer in (pair.src, pair.tgt))
    token = pair.src.language_tokens[0] if isinstance(pair.src, Directed) and pair.src.language_tokens else None
    with written_aside(output) as folder:
        ctranslate2.save(model, src_tokens, tgt_tokens, folder, config.quantization)
        largest, mean = ctranslate2.difference(model, src_tokens, tgt_tokens, folder)
        if config.quantization is None and not largest <= ctranslate2.TOLERANCE:
            raise UserError(
                f"what was exported is not the model: log-probabilities differ by {largest:.2g}, more than "
                f"{ctranslate2.TOLERANCE:g}; {output} was not written"
            )
        for tokenizer, stem in ((pair.src, "source"), (pair.tgt, "target")):
            tokenizer.save(folder, stem)
        facts = {
            "checkpoint": str(loaded.folder),
            "step": loaded.manifest["step"],
            "quantization": config.quantization or "float32",
            "largest_difference": largest,
            "mean_difference": mean,
            "lowercase": pair.src.lowercase,
            "language_token": token,
            "max_len": model.max_len,
        }
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in output.iterdir()) / 2**20
    print(f"{output}: {config.quantization or 'float32'}, {size:.1f} MiB")
    print(f"log-probabilities of 64 random pairs, token by token: at most {largest:.2g} off, {mean:.2g} in the mean")
    steps = [*(["lower-case the text"] if pair.src.lowercase else []), "source.model (SentencePiece) makes its pieces"]
    steps += [f"{token} goes before them"] if token else []
    print(f"to use it: {', '.join(steps)}, ctranslate2.Translator translates them, target.model decodes")


if __name__ == "__main__":
    entry.export()
