"""runtime.compile: the layers of a trainer's model, compiled where it is wanted, repays and can be done."""

import numpy as np

from transformer.build.source import Data
from transformer.config import TrainConfig
from transformer.data.batch import collate
from transformer.error import UserError
from transformer.training.compiled import compile_layers, compiler_missing, repays, updates_to_come
from transformer.training.trainer import Trainer

_PAIRS = 16  # to compile by


def compiled(config: TrainConfig, trainer: Trainer, source: Data) -> str | None:
    """Compiles the layers if the config says so; what the user should read of it, or None.

    The trainer stands where it is to begin; its checkpoints note whether its layers are compiled.

    Raises:
        UserError: runtime.compile is not auto, true or false.
    """
    choice, device = config.runtime.compile, trainer.world.device
    if not (choice == "auto" or isinstance(choice, bool)):
        raise UserError(f"runtime.compile is {choice}, but must be auto, true or false")
    if choice is False or (choice == "auto" and not repays(device, updates_to_come(trainer))):
        return None
    if trainer.whole:
        return "layers are left uncompiled: the weights are sharded"
    if missing := compiler_missing(device):
        return f"layers are left uncompiled: {missing}"
    indices = np.arange(min(_PAIRS, len(source.train)))
    done, told = compile_layers(trainer, collate([source.train[i] for i in indices.tolist()], indices))
    if done:
        trainer.environment["layers"] = "compiled"
    return told
