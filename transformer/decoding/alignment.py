"""Where a model looked while it wrote: cross-attention of given translations, and word alignments out of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from transformer.data.tokenizer.base import Directed, Tokenizer, TokenizerPair
from transformer.decoding.translator import batches, evaluating, padded
from transformer.error import UserError
from transformer.model.layers import DecoderLayer
from transformer.model.transformer import Transformer
from transformer.special import BOS, EOS, PAD

Floats = npt.NDArray[np.float64]
Alignment = list[tuple[int, int]]
"""Pairs of words, counted from 0: source, target."""

NO_WORD = -1


@dataclass(frozen=True)
class Attention:
    """Cross-attention of one translation.

    src_tokens, tgt_tokens: pieces, "</s>" behind the source's. weights: float (n_layers, n_heads, len(tgt_tokens),
    len(src_tokens)); row t is where each head looked when piece t was written.
    src_words, tgt_words: which whitespace-separated word of the line each piece belongs to, EOS left out; NO_WORD for a
    language token.
    """

    src_tokens: list[str]
    tgt_tokens: list[str]
    weights: Floats
    src_words: list[int]
    tgt_words: list[int]

    def mean(self, layer: int | None) -> Floats:
        """Return the mean over the heads of a layer, counted from 1, or of all (None): (tgt_len, src_len)."""
        chosen = self.weights if layer is None else self.weights[layer - 1 : layer]
        return np.asarray(chosen.mean(axis=(0, 1)))

    def alignment(self, layer: int | None) -> Alignment:
        """Return, for each word of the translation, (source word, word) with the source word most looked at.

        The weights, a mean over heads, are summed over a source word's pieces and averaged over a target word's; what
        fell on EOS or a language token does not count. Words are counted from 0.
        """
        words = np.asarray(self.src_words, dtype=np.int64)
        of_words = np.flatnonzero(words != NO_WORD)
        if not of_words.size or not self.tgt_words:
            return []
        weights = self.mean(layer)[:, of_words]
        by_src = np.zeros((len(weights), int(words.max()) + 1))
        np.add.at(by_src.T, words[of_words], weights.T)
        by_word = np.zeros((max(self.tgt_words) + 1, by_src.shape[1]))
        np.add.at(by_word, self.tgt_words, by_src)
        return [(int(by_word[word].argmax()), word) for word in sorted(set(self.tgt_words))]


def pharaoh(alignment: Alignment) -> str:
    """Return "0-0 1-2 ...": source word, target word."""
    return " ".join(f"{src}-{tgt}" for src, tgt in alignment)


def words_of_pieces(line: str, ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Return which whitespace-separated word of a line each of its pieces belongs to, counted from 0."""
    if isinstance(tokenizer, Directed):
        _, text = tokenizer.divided(line)
        n_before = len(line.split()) - len(text.split())  # 1 where the line itself names its language
        return [*[NO_WORD] * len(ids[:1]), *(n_before + n for n in words_of_pieces(text, ids[1:], tokenizer.tokenizer))]
    words = line.split()
    apart = tokenizer.encode_lines(words)
    if [id_ for word in apart for id_ in word] == list(ids):
        return [number for number, word in enumerate(apart) for _ in word]
    return words_written(ids, tokenizer, len(words))


def words_written(ids: Sequence[int], tokenizer: Tokenizer, n_words: int) -> list[int]:
    """The same from the text that the pieces write, which may have been normalised."""
    counts = [len(tokenizer.decode(ids[:n]).split()) for n in range(1, len(ids) + 1)]
    return [min(max(0, count - 1), max(0, n_words - 1)) for count in counts]


def _shape(model: Transformer) -> tuple[int, int]:
    """Return the decoder's number of layers and of heads."""
    return len(model.decoder_layers), cast(DecoderLayer, model.decoder_layers[0]).cross_attention.n_heads


class Aligner:
    """Finds the cross-attention of translations by feeding them to the model once more, all steps at once.

    Args:
        models: one, or the members of an ensemble with equally many layers and heads, whose weights are averaged.
        tokenizers: their tokenizers.
        max_tokens: most source and target tokens of a batch, padding and EOS included.
        device: where the models are.

    Raises UserError where members differ in layers or heads.
    """

    def __init__(
        self, models: Sequence[Transformer], tokenizers: TokenizerPair, max_tokens: int, device: torch.device | str
    ) -> None:
        self.models, self.tokenizers, self.max_tokens = list(models), tokenizers, max_tokens
        self.device = torch.device(device)
        self.max_len = min(model.max_len for model in models)
        shapes = [_shape(model) for model in models]
        for shape in shapes:
            if shape != shapes[0]:
                raise UserError(
                    f"the models of the ensemble have {shapes[0][0]} layers of {shapes[0][1]} heads and {shape[0]} of "
                    f"{shape[1]}, so there is no mean of their attention; leave out what shows it: alignments, "
                    "heatmaps, format=jsonl"
                )

    def attend(self, lines: Sequence[str], translations: Sequence[tuple[str, Sequence[int]]]) -> list[Attention]:
        """Return the attention of each translation, in order, see `attend_each`."""
        found = dict(self.attend_each(lines, translations))
        return [found[i] for i in range(len(lines))]

    def attend_each(
        self, lines: Sequence[str], translations: Sequence[tuple[str, Sequence[int]]]
    ) -> Iterator[tuple[int, Attention]]:
        """Yield the number, from 0, and the attention of each translation, those of similar length together.

        No more than one batch is held: the weights of many long sentences would fill the memory.

        lines: source text, cut as the translator cuts it. translations: the text of each and its ids, without EOS.
        """
        sources = [ids[: self.max_len - 1] for ids in self.tokenizers.src.encode_lines(list(lines))]
        lengths = [len(src) + len(ids) + 2 for src, (_, ids) in zip(sources, translations, strict=True)]
        for indices in batches(lengths, self.max_tokens):
            src = padded([[*sources[i], EOS] for i in indices]).to(self.device)
            tgt = padded([[BOS, *translations[i][1]] for i in indices]).to(self.device)
            weights = self._weights(src, tgt)
            for row, i in enumerate(indices):
                yield i, self._attention(lines[i], sources[i], *translations[i], weights[:, row])

    @torch.inference_mode()
    def _weights(self, src: Tensor, tgt_in: Tensor) -> Tensor:
        """Return the mean over the models, (n_layers, batch, n_heads, tgt_len, src_len)."""
        total: Tensor | None = None
        for model in self.models:
            with evaluating(model):
                memory = model.encode(src, src == PAD)
                with model.recording() as recorded:
                    model.decode(tgt_in, memory, src == PAD)
            weights = torch.stack(recorded.cross).float()
            total = weights if total is None else total + weights
        assert total is not None  # there is at least one model
        return total.cpu() / len(self.models)

    def _attention(self, line: str, src_ids: list[int], text: str, ids: Sequence[int], weights: Tensor) -> Attention:
        src, tgt = self.tokenizers.src, self.tokenizers.tgt
        ids = list(ids)
        return Attention(
            [*src.tokens(src_ids), "</s>"],
            tgt.tokens(ids),
            np.asarray(weights[:, :, : len(ids), : len(src_ids) + 1].double()),
            words_of_pieces(line, src_ids, src),
            words_written(ids, tgt, len(text.split())),
        )
