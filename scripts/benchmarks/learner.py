"""One learner in a process of its own: a model and its update, told through JSON lines which batches to learn from."""

import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contestant import runtime
from benchmarks.machine import peak_megabytes
from transformer import build
from transformer.data.batch import Batch
from transformer.model.layers import LayerShape
from transformer.model.position.sinusoidal import Sinusoidal, sinusoids
from transformer.model.transformer import Transformer, Vocabulary
from transformer.special import BOS, EOS, PAD
from transformer.training.loss import Objective
from transformer.training.precision import Precision
from transformer.training.update import Updater

DROPOUT, SMOOTHING, CLIP_NORM, RATE = 0.3, 0.1, 1.0, 5e-4
Learn = Callable[[Batch], None]
Shape = dict[str, Any]  # d_model, n_heads, d_ff, n_encoder_layers, n_decoder_layers, norm, max_len, vocab_size


def plain_loop(model: nn.Module, logits: Callable[[Batch], Tensor], precision: Precision) -> Learn:
    """The update as everybody writes it: all logits, cross-entropy, Adam, the norm of the gradient clipped."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.9, 0.98), eps=1e-9)
    model.train()

    def learn(batch: Batch) -> None:
        with precision.autocast():
            found = logits(batch)
            loss = F.cross_entropy(
                found.flatten(0, 1), batch.tgt_out.flatten(), ignore_index=PAD, label_smoothing=SMOOTHING
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        loss.item()

    return learn


def ours(shape: Shape, threads: int, precision: Precision) -> Learn:
    """This project, through the pieces that `train` puts together."""
    world = build.runtime(runtime(threads), None)  # threads divide a batch, as `train` has it unless told otherwise
    layers = LayerShape(shape["d_model"], shape["n_heads"], shape["d_ff"], shape["norm"], "relu", DROPOUT, 0.0, 0.0)
    vocabulary = Vocabulary(shape["vocab_size"], shape["vocab_size"], "three")
    n_layers = shape["n_encoder_layers"], shape["n_decoder_layers"]
    model = Transformer(vocabulary, layers, *n_layers, Sinusoidal, shape["max_len"])
    model.use_fast_paths(fused_attention=True, bulk_dropout=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.9, 0.98), eps=1e-9, fused=True)
    objective = Objective(model, SMOOTHING, chunked=True)
    update = Updater(objective, optimizer, world, precision, CLIP_NORM)

    def learn(batch: Batch) -> None:
        update([batch], 1.0)

    return learn


class Embedded(nn.Module):
    """Tied tables and sinusoids around what a subclass does between them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape["vocab_size"], shape["d_model"], padding_idx=PAD)
        nn.init.normal_(self.tokens.weight, std=shape["d_model"] ** -0.5)
        self.dropout = nn.Dropout(DROPOUT)
        self.scale = math.sqrt(shape["d_model"])
        self.positions: Tensor
        self.register_buffer("positions", sinusoids(shape["max_len"], shape["d_model"]))

    def embed(self, ids: Tensor) -> Tensor:
        return self.dropout(self.tokens(ids) * self.scale + self.positions[: ids.size(1)])

    def project(self, x: Tensor) -> Tensor:
        return F.linear(x, self.tokens.weight)


class TorchModel(Embedded):
    """torch.nn.Transformer, with dropout where the others have it: behind sub-layers and embeddings alone."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.body = nn.Transformer(
            shape["d_model"],
            shape["n_heads"],
            shape["n_encoder_layers"],
            shape["n_decoder_layers"],
            shape["d_ff"],
            DROPOUT,
            batch_first=True,
            norm_first=shape["norm"] == "pre",
        )
        for module in self.body.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
            elif isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                module.dropout = nn.Identity()  # type: ignore[assignment]  # of the activations

    def forward(self, batch: Batch) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(batch.tgt_in.size(1), dtype=torch.bool)
        padding = batch.src_key_padding_mask
        decoded = self.body(
            self.embed(batch.src),
            self.embed(batch.tgt_in),
            tgt_mask=causal,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        return self.project(decoded)


def torch_module(shape: Shape, threads: int, precision: Precision) -> Learn:
    """A plain loop over torch.nn.Transformer."""
    model = TorchModel(shape)
    return plain_loop(model, model, precision)


class Heads(nn.Module):
    """Attention as tutorials write it: three projections, explicit scores, masked with a large negative number."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q, self.k, self.v, self.out = (nn.Linear(d_model, d_model) for _ in range(4))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (self.split(f(x)) for f, x in ((self.q, q), (self.k, k), (self.v, v)))
        scores = (q @ k.transpose(2, 3)) / math.sqrt(q.size(-1))
        mixed = torch.softmax(scores.masked_fill(mask == 0, -10000.0), dim=-1) @ v
        return self.out(mixed.transpose(1, 2).contiguous().view(q.size(0), -1, self.n_heads * q.size(-1)))

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), x.size(1), self.n_heads, -1).transpose(1, 2)


class TeachingLayer(nn.Module):
    """An encoder or decoder layer with one norm and one dropout a sub-layer."""

    def __init__(self, shape: Shape, cross: bool) -> None:
        super().__init__()
        d_model = shape["d_model"]
        self.pre = shape["norm"] == "pre"
        self.own = Heads(d_model, shape["n_heads"])
        self.cross = Heads(d_model, shape["n_heads"]) if cross else None
        self.inner, self.outer = nn.Linear(d_model, shape["d_ff"]), nn.Linear(shape["d_ff"], d_model)
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(3 if cross else 2))
        self.dropouts = nn.ModuleList(nn.Dropout(DROPOUT) for _ in range(3 if cross else 2))

    def add(self, i: int, x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre:
            return x + self.dropouts[i](f(self.norms[i](x)))
        return self.norms[i](x + self.dropouts[i](f(x)))

    def forward(
        self, x: Tensor, mask: Tensor, memory: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> Tensor:
        x = self.add(0, x, lambda y: self.own(y, y, y, mask))
        if self.cross is not None:
            cross = self.cross
            x = self.add(1, x, lambda y: cross(y, memory, memory, memory_mask))
        return self.add(len(self.norms) - 1, x, lambda y: self.outer(torch.relu(self.inner(y))))


class TeachingModel(Embedded):
    """The layout of the teaching code: own layers, masks multiplied out for every batch."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.encoder = nn.ModuleList(TeachingLayer(shape, cross=False) for _ in range(shape["n_encoder_layers"]))
        self.decoder = nn.ModuleList(TeachingLayer(shape, cross=True) for _ in range(shape["n_decoder_layers"]))
        last = nn.LayerNorm if shape["norm"] == "pre" else nn.Identity
        self.norms = nn.ModuleList(last(shape["d_model"]) for _ in range(2))

    def forward(self, batch: Batch) -> Tensor:
        src_mask = (batch.src != PAD).unsqueeze(1).unsqueeze(2)
        causal = torch.tril(torch.ones(batch.tgt_in.size(1), batch.tgt_in.size(1), dtype=torch.bool))
        tgt_mask = (batch.tgt_in != PAD).unsqueeze(1).unsqueeze(3) & causal
        memory = self.embed(batch.src)
        for layer in self.encoder:
            memory = layer(memory, src_mask)
        memory, x = self.norms[0](memory), self.embed(batch.tgt_in)
        for layer in self.decoder:
            x = layer(x, tgt_mask, memory, src_mask)
        return self.project(self.norms[1](x))


def teaching(shape: Shape, threads: int, precision: Precision) -> Learn:
    """A plain loop over the teaching code's layout."""
    model = TeachingModel(shape)
    return plain_loop(model, model, precision)


def huggingface(shape: Shape, threads: int, precision: Precision) -> Learn:
    """A plain loop over Hugging Face's Marian (post-norm) or Pegasus (pre-norm)."""
    import transformers

    pre = shape["norm"] == "pre"
    config = getattr(transformers, "PegasusConfig" if pre else "MarianConfig")(
        vocab_size=shape["vocab_size"],
        d_model=shape["d_model"],
        encoder_layers=shape["n_encoder_layers"],
        decoder_layers=shape["n_decoder_layers"],
        encoder_attention_heads=shape["n_heads"],
        decoder_attention_heads=shape["n_heads"],
        encoder_ffn_dim=shape["d_ff"],
        decoder_ffn_dim=shape["d_ff"],
        activation_function="relu",
        scale_embedding=True,
        max_position_embeddings=shape["max_len"],
        dropout=DROPOUT,
        attention_dropout=0.0,
        activation_dropout=0.0,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        decoder_start_token_id=BOS,
        forced_eos_token_id=None,
        tie_word_embeddings=True,
    )
    model: Any = getattr(transformers, "PegasusForConditionalGeneration" if pre else "MarianMTModel")(config)

    def logits(batch: Batch) -> Tensor:
        mask = (~batch.src_key_padding_mask).long()
        out = model(input_ids=batch.src, attention_mask=mask, decoder_input_ids=batch.tgt_in, use_cache=False)
        return out.logits

    return plain_loop(model, logits, precision)


LEARNERS: dict[str, Callable[[Shape, int, Precision], Learn]] = {
    "this project": ours,
    "torch.nn.Transformer": torch_module,
    "teaching layout": teaching,
    "Hugging Face": huggingface,
}


def available() -> list[str]:
    """The learners that can run here; says which cannot."""
    if importlib.util.find_spec("transformers") is not None:
        return list(LEARNERS)
    print("without Hugging Face: the package transformers is not installed", file=sys.stderr)
    return [name for name in LEARNERS if name != "Hugging Face"]


def save(batches: list[Batch], path: Path) -> None:
    """Writes batches for the learners to read."""
    torch.save([(b.src, b.tgt_in, b.tgt_out, b.src_key_padding_mask, b.n_tgt_tokens) for b in batches], path)


def main(name: str, folder: str, size: str, threads: int, precision: str) -> None:
    """Answers one JSON line for each JSON line read: {"begin": batch, "end": batch} -> seconds, MiB."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    shape = json.loads((Path(folder) / "shapes.json").read_text(encoding="utf-8"))[size]
    rows = torch.load(Path(folder) / "batches.pt", weights_only=True)
    batches = [Batch(*row, indices=np.arange(len(row[0]))) for row in rows]
    learn = LEARNERS[name](shape, threads, Precision(precision, torch.device("cpu")))
    learn(batches[0])
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        begin = time.perf_counter()
        for i in range(job["begin"], job["end"]):
            learn(batches[i % len(batches)])
        answer = {"seconds": time.perf_counter() - begin, "megabytes": peak_megabytes()}
        print(json.dumps(answer), file=answers, flush=True)
