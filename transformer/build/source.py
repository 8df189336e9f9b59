"""What a config trains on: corpus, tokenizers, prepared pairs, batches."""

from dataclasses import dataclass
from pathlib import Path

from transformer.build.part import instantiate
from transformer.config import TrainConfig
from transformer.data.batching import Batching, Sorted
from transformer.data.corpus import Corpus
from transformer.data.loader import BatchLoader
from transformer.data.store import PairStore, prepare_store
from transformer.data.tokenizer.base import TokenizerPair, TokenizerTrainer, train_tokenizers
from transformer.data.transfer import Transfer
from transformer.training.distributed import World


@dataclass(frozen=True)
class Data:
    """What a run trains on.

    Attributes:
        corpus: the text.
        tokenizers: trained on its training split.
        trainer: what trained them.
        train: the training pairs.
        validation: the validation pairs.
    """

    corpus: Corpus
    tokenizers: TokenizerPair
    trainer: TokenizerTrainer
    train: PairStore
    validation: PairStore

    @property
    def texts(self) -> dict[str, str]:
        """The fingerprint of each split's text."""
        return {"train": self.train.text, "validation": self.validation.text}


def data(config: TrainConfig, tokenizers: TokenizerPair | None = None) -> Data:
    """Corpus, tokenizers (trained if none are given) and prepared pairs."""
    corpus = instantiate(config.data, "data", Corpus)  # type: ignore[type-abstract]
    corpus.check_validation()
    trainer = instantiate(config.tokenizer, "tokenizer", TokenizerTrainer)  # type: ignore[type-abstract]
    corpus.prepare()
    cache = Path(config.cache_dir)
    tokenizers = (tokenizers or train_tokenizers(corpus, trainer, cache)).for_corpus(corpus)
    stores = [
        prepare_store(corpus, split, tokenizers, config.training.max_len, cache) for split in ("train", "validation")
    ]
    return Data(corpus, tokenizers, trainer, *stores)


def loader(config: TrainConfig, world: World, source: Data) -> tuple[BatchLoader, BatchLoader]:
    """This process's batches for training (shuffled, sampled) and for validation (in order, as they are)."""
    batching = instantiate(config.batching, "batching", Batching)  # type: ignore[type-abstract]
    planned = source.corpus.mixed(batching, source.train.lines)
    transfer = Transfer(world.device)
    train = BatchLoader(source.train, planned, config.seed, world.rank, world.size, source.tokenizers, transfer)
    train.set_epoch(1)  # so that what is told beforehand is true of the first epoch
    in_order = Sorted(batching.max_tokens, batching.round_to)
    return train, BatchLoader(source.validation, in_order, config.seed, world.rank, world.size, None, transfer)
