"""Layers compiled by torch.compile: whether it repays, whether it can be done here, and how long it took."""

import importlib
import os
import shutil
import time
import warnings

import torch

from transformer.data.batch import Batch
from transformer.model.dropout import Dropout
from transformer.training.state import random_state, set_random_state
from transformer.training.trainer import Trainer

REPAYS_AFTER = 2000  # updates: a minute or two of compiling is a small part of them


def compiler_missing(device: torch.device) -> str | None:
    """What torch.compile lacks on this machine, in words, or None."""
    candidates = [name for name in (os.environ.get("CXX"), "g++", "clang++", "cl") if name]
    if not any(shutil.which(name) for name in candidates):
        return "there is no C++ compiler (g++, clang++)"
    if device.type == "cuda":
        try:
            importlib.import_module("triton")
        except ImportError as error:
            return f"Triton cannot be imported ({error})"
    return None


def repays(device: torch.device, n_updates: int) -> bool:
    """Whether compiling is worth its time: on a GPU, when many updates are to come; on a CPU it gains nothing."""
    return device.type == "cuda" and n_updates >= REPAYS_AFTER


def updates_to_come(trainer: Trainer) -> int:
    """Updates until the limits end the run."""
    return trainer.limits.last_update(len(trainer.batches)) - trainer.progress.step


def compile_layers(trainer: Trainer, batch: Batch, backend: str = "inductor") -> tuple[bool, str]:
    """Compiles the layers of a trainer's model for training, for all lengths and batch sizes at once.

    The layers alone: embeddings gather, the loss is a function with gradients of its own, and what is evaluated runs as
    it is. Dropout in the layers is drawn by the compiled code from torch's generator, not in bulk, and a batch is not
    divided among threads. Weights and random states stay as they are.

    Args:
        trainer: before its first update.
        batch: some pairs, on any device, to compile by.
        backend: torch.compile's name of what makes the code.

    Returns:
        Whether it was done, and a sentence: how long it took, or why the layers are left as they are.
    """
    model, states, begin = trainer.objective.model, random_state(), time.perf_counter()
    layers = [*model.encoder_layers, *model.decoder_layers]
    bulk = [(part, part.bulk) for layer in layers for part in layer.modules() if isinstance(part, Dropout)]
    divided, trainer.update.divided = trainer.update.divided, None
    for part, _ in bulk:
        part.bulk = False
    model.compiled = {layer: torch.compile(layer, dynamic=True, backend=backend) for layer in layers}
    failure = _failure(trainer, batch)
    set_random_state(states)
    if not trainer.world.any(failure is not None):  # all processes or none: they must compute alike
        return True, f"layers compiled in {time.perf_counter() - begin:.1f} s"
    model.compiled = {}
    trainer.update.divided = divided
    for part, was in bulk:
        part.bulk = was
    return False, f"layers are left uncompiled: {failure or 'compiling failed in another process'}"


def _failure(trainer: Trainer, batch: Batch) -> str | None:
    """Runs forward and backward once, which compiles; what went wrong, in words, or None."""
    objective, batch = trainer.objective.train(), batch.to(trainer.world.device)
    try:
        with warnings.catch_warnings(), trainer.precision.autocast():
            # torch's tracer looks at gradients of its inputs where there are none, and warns of it.
            warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
            sums = objective(batch.src, batch.src_key_padding_mask, batch.tgt_in, batch.tgt_out)
        # Not backward(): it would start an exchange among processes.
        torch.autograd.grad(sums[0], trainer.update.parameters, allow_unused=True)
    except torch._dynamo.exc.TorchDynamoException as error:
        return " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
    return None
