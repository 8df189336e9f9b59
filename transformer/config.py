"""The typed spine of every command's config: names, types and units. The values stand in configs/, each once.

A part of which there is one is a dataclass here. A part of which there is a choice is a leaf: a mapping with `_target_`
and that target's arguments, checked against its signature by `build`.
"""

from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from transformer.error import UserError

Leaf = dict[str, Any]


@dataclass
class ModelConfig:
    """The model's shape; see `transformer.model.layers.LayerShape`."""

    d_model: int
    n_heads: int
    d_ff: int
    n_encoder_layers: int
    n_decoder_layers: int
    max_len: int  # tokens
    norm: str  # pre, post
    activation: str  # relu, gelu, silu
    tying: str  # none, two, three
    dropout: float  # 0-1
    attention_dropout: float  # 0-1
    activation_dropout: float  # 0-1
    position: Leaf
    score: Leaf
    normalizer: Leaf


@dataclass
class TrainingConfig:
    """How long and how to train; see `transformer.training.trainer.Limits`."""

    max_epochs: int | None
    max_steps: int | None  # updates
    accumulate: int  # micro-batches an update
    clip_norm: float | None  # L2 norm
    label_smoothing: float  # 0-1
    smoothing_prior: str  # uniform, unigram
    monitor: str  # valid_loss, valid_accuracy, bleu, or a name in validation_scores
    patience: int | None  # epochs
    bleu_every_epochs: int  # epochs, 0 = never
    checkpoint_every_steps: int | None  # updates
    checkpoint_every_minutes: float | None  # minutes
    ema_decay: float | None  # 0-1
    keep_last: int  # checkpoints
    keep_best: int  # checkpoints
    n_samples: int  # validation lines shown an epoch
    max_len: int  # tokens of a side; longer pairs are left out of training and validation


@dataclass
class MachineConfig:
    """The machine, and how its processor is used."""

    device: str  # auto, cpu, cuda
    threads: int | None  # of torch on the CPU
    precision: str  # fp32, tf32, bf16, fp16
    fused_attention: bool
    keep_memory: bool
    arithmetic: str  # auto, torch, onednn; float32 on the CPU


@dataclass
class RuntimeConfig(MachineConfig):
    """The same, and what matters in training alone."""

    chunked_loss: bool
    bulk_dropout: bool
    workers: int | None  # threads that share a batch
    recompute: bool
    deferred: bool | None  # None: on a GPU
    sharded: bool
    compile: Any  # auto, true, false


@dataclass
class TranslationConfig:
    """How much is translated at once, and how long a translation may be; see `transformer.decoding.translator`."""

    max_tokens: int  # hypotheses x source tokens in a batch
    max_len_ratio: float  # tokens per source token
    max_len_offset: int  # tokens
    buffer_lines: int  # lines read ahead
    refill: bool | None  # None: on a GPU
    processes: bool | None  # None: on Linux, but not in training


@dataclass
class FinalConfig:
    """What is done when training has ended."""

    splits: list[str]  # test splits on which the best checkpoint is evaluated
    n_shown: int  # translations shown
    n_bootstrap: int  # resamples for the 95% interval, 0 = none


@dataclass
class WarmStartConfig:
    """What a new run begins with; see `transformer.training.warm_start`."""

    checkpoint: str | None  # a folder
    tokenizer: str  # checkpoint, new
    frozen: list[str]  # parts of the model, names or patterns


@dataclass
class TrainConfig:
    """`train`."""

    name: str
    seed: int
    resume: bool
    overwrite: bool
    saved_dir: str
    results_dir: str
    cache_dir: str
    data: Leaf
    tokenizer: Leaf
    batching: Leaf
    model: ModelConfig
    warm_start: WarmStartConfig
    optimizer: Leaf
    schedule: Leaf
    loss: Leaf
    training: TrainingConfig
    runtime: RuntimeConfig
    translation: TranslationConfig
    decoding: Leaf
    validation_decoding: Leaf
    validation_metric: Leaf
    validation_scores: dict[str, Leaf]
    metrics: dict[str, Leaf]
    monitor: dict[str, Leaf]
    final: FinalConfig


@dataclass
class TranslateConfig:
    """`translate`."""

    checkpoint: Any  # a folder, or a list of folders: an ensemble
    into: str | None  # language, of a model for several
    input: str | None  # file; null = standard input
    output: str | None  # file; null = standard output
    input_format: str  # lines, tsv
    format: str  # text, nbest, jsonl
    alignments: str | None  # file
    heatmaps: str | None  # folder
    heatmap: str  # mean, heads
    n_heatmaps: int
    layer: int | None  # counted from 1; null = mean of all
    decoding: Leaf
    translation: TranslationConfig
    runtime: MachineConfig


@dataclass
class ScoreConfig:
    """`score`."""

    checkpoint: Any  # a folder, or a list of folders: an ensemble
    into: str | None  # language, of a model for several
    src: str
    tgt: str
    output: str | None  # file; null = standard output
    format: str  # tsv, jsonl
    max_tokens: int  # source and target tokens in a batch
    buffer_lines: int  # pairs read ahead
    runtime: MachineConfig


@dataclass
class DistillConfig:
    """`distill`."""

    checkpoint: Any  # a folder, or a list of folders: an ensemble
    output: str  # folder
    src: str | None  # a file instead of the training split
    ref: str | None
    choose: str  # best, nearest
    back: bool  # for a model of the other direction
    into: str | None  # language, of a model for several
    data_root: str | None  # where the checkpoint's corpus lies now
    decoding: Leaf
    translation: TranslationConfig
    runtime: MachineConfig


@dataclass
class EvaluateConfig:
    """`evaluate`."""

    checkpoint: Any  # a folder, or a list of folders
    ensemble: bool
    into: str | None  # language, of a model for several
    split: Any  # a name, or a list of names
    testset: str | None  # sacreBLEU's name of a set, instead of a split
    src: str | None  # a file pair instead of a split
    ref: str | None
    data_root: str | None  # where the checkpoint's corpus lies now
    output_dir: str | None
    n_bootstrap: int  # resamples for the 95% interval, 0 = none
    n_shown: int  # translations shown
    decoding: Leaf
    translation: TranslationConfig
    metrics: dict[str, Leaf]
    runtime: MachineConfig


@dataclass
class CompareConfig:
    """`compare`."""

    systems: Any  # a list of folders and files
    into: str | None  # language, of a model for several
    split: str
    testset: str | None  # sacreBLEU's name of a set, instead of a split
    src: str | None  # a file pair instead of a split
    ref: str | None
    data_root: str | None  # where the checkpoint's corpus lies now
    train_tgt: str | None  # file
    n_examples: int  # lines a system, each way
    output_dir: str
    decoding: Leaf
    translation: TranslationConfig
    metrics: dict[str, Leaf]
    significance: Leaf
    runtime: MachineConfig


@dataclass
class AverageConfig:
    """`average`."""

    run: str | None
    last: int | None  # checkpoints
    best: int | None  # checkpoints
    checkpoints: list[str] | None
    output: str


@dataclass
class ExportConfig:
    """`export`."""

    checkpoint: str
    output: str  # folder
    quantization: str | None  # of transformer.export.ctranslate2.QUANTIZATIONS; null = float32
    into: str | None  # language, of a model for several


@dataclass
class PlotConfig:
    """`plot`."""

    runs: Any  # a folder, or a list of folders
    output: str
    x: str  # epoch, step, hours, million target tokens


@dataclass
class SweepConfig:
    """`sweep`; whatever else is on its command line is for the training of each trial."""

    name: str
    n_trials: int  # in all
    objective: str  # bleu, chrf, valid_loss, valid_accuracy, or another of validation_scores
    prune: bool
    n_warmup_epochs: int  # epochs
    n_random: int  # trials
    sampler_seed: int
    sweep: dict[str, Leaf]


# The least that each number may be; where null is allowed, it stays allowed.
LEAST = {
    "seed": 0,
    "training.max_epochs": 1,
    "training.max_steps": 1,
    "training.accumulate": 1,
    "training.label_smoothing": 0,
    "training.patience": 1,
    "training.bleu_every_epochs": 0,
    "training.checkpoint_every_steps": 1,
    "training.checkpoint_every_minutes": 0,
    "training.keep_last": 1,
    "training.keep_best": 1,
    "training.n_samples": 0,
    "training.max_len": 1,
    "final.n_shown": 0,
    "final.n_bootstrap": 0,
}


def check(config: TrainConfig) -> None:
    """Refuses what fits the types and makes no sense.

    Raises:
        UserError: naming the value and its bound, or both values that do not go together.
    """
    for key, least in LEAST.items():
        value = attrgetter(key)(config)
        if value is not None and not value >= least:  # nan is refused too
            raise UserError(f"{key} is {value}, but must be at least {least}")
    if config.training.clip_norm is not None and not config.training.clip_norm > 0:
        raise UserError(f"training.clip_norm is {config.training.clip_norm}, but must be above 0, or null for no limit")
    if config.training.ema_decay is not None and not 0 <= config.training.ema_decay < 1:
        raise UserError(
            f"training.ema_decay is {config.training.ema_decay}, but must be at least 0 and below 1, or null for none"
        )
    if not config.seed < 2**63:
        raise UserError(f"seed is {config.seed}, but must be below 2 to the power of 63")
    if not config.training.label_smoothing < 1:
        raise UserError(f"training.label_smoothing is {config.training.label_smoothing}, but must be below 1")
    if config.schedule.get("monitor") == "bleu" and not config.training.bleu_every_epochs:
        raise UserError(
            "schedule.monitor is bleu, but training.bleu_every_epochs is 0; set it to 1, or monitor valid_loss"
        )
    if config.runtime.sharded and config.runtime.precision == "fp16":
        raise UserError("runtime.sharded is true, but runtime.precision is fp16; use bf16, or runtime.sharded=false")
    if config.runtime.sharded and config.batching.get("max_tokens") == "auto":
        raise UserError(
            "runtime.sharded is true, but batching.max_tokens is auto, which tries the whole model on each process; "
            "give a number of tokens, or runtime.sharded=false"
        )
    # saved/NAME is written, and with overwrite=true deleted.
    if not Path(config.name).parts or Path(config.name).is_absolute() or ".." in Path(config.name).parts:
        raise UserError(f"name is {config.name!r}, but must be that of a folder in saved_dir and results_dir")
    _check_warm_start(config.warm_start)
    round_to = config.batching.get("round_to") or 1
    padded = -(-(config.training.max_len + 1) // round_to) * round_to if isinstance(round_to, int) else 0
    if config.training.max_len + 1 <= config.model.max_len < padded:
        raise UserError(
            f"training.max_len ({config.training.max_len}) and the end of sentence are padded to {padded} by "
            f"batching.round_to ({round_to}), more than model.max_len ({config.model.max_len}); lower training.max_len"
        )
    if config.training.max_len + 1 > config.model.max_len:
        raise UserError(
            f"training.max_len ({config.training.max_len}) and the end of sentence do not fit model.max_len "
            f"({config.model.max_len})"
        )


def _check_warm_start(config: WarmStartConfig) -> None:
    if config.tokenizer not in ("checkpoint", "new"):
        raise UserError(f"warm_start.tokenizer is {config.tokenizer}, but must be one of checkpoint, new")
    if config.checkpoint is None and config.frozen:
        raise UserError(
            f"warm_start.frozen is {', '.join(config.frozen)}, but warm_start.checkpoint is null: random weights would "
            "never be trained; name a checkpoint, or freeze nothing"
        )


SCHEMAS: dict[str, type] = {
    "train": TrainConfig,
    "translate": TranslateConfig,
    "distill": DistillConfig,
    "evaluate": EvaluateConfig,
    "average": AverageConfig,
    "export": ExportConfig,
    "compare": CompareConfig,
    "score": ScoreConfig,
    "plot": PlotConfig,
    "sweep": SweepConfig,
}


def register_schemas() -> None:
    """Makes the dataclasses known to Hydra as <command>_schema."""
    store = ConfigStore.instance()
    for name, schema in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=schema)


def config_dir() -> Path:
    """The folder of the shipped YAML files: inside an installed package, beside it in a checkout."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "configs"
