"""Alignments out of attention: by hand on given weights, and against the model's own attention, batched or not."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from transformer.data.tokenizer.base import Directed
from transformer.decoding.alignment import NO_WORD, Aligner, Attention, pharaoh, words_of_pieces, words_written
from transformer.error import UserError
from transformer.model.layers import LayerShape
from transformer.model.position.sinusoidal import Sinusoidal
from transformer.model.transformer import Transformer, Vocabulary
from transformer.special import BOS, EOS


class Pieces:
    """Ids from 4 on are pieces: 4.. = "_a", "b", "_c", ... where "_" begins a word."""

    pieces = ("_a", "b", "_c", "d", "_e", "_")

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        return [self.encode(line) for line in lines]

    def encode(self, line: str) -> list[int]:
        ids = []
        for word in line.split():
            ids += [
                4 + self.pieces.index(("_" if i == 0 and f"_{c}" in self.pieces else "") + c)
                for i, c in enumerate(word)
            ]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.pieces[i - 4] for i in ids).replace("_", " ").strip()

    def tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.pieces[i - 4] for i in ids]


PAIR: Any = SimpleNamespace(src=Pieces(), tgt=Pieces())


def attend(models: Sequence[Transformer], max_tokens: int, lines: Any, translations: Any) -> list[Attention]:
    return Aligner(models, PAIR, max_tokens, "cpu").attend(lines, translations)


def make_model(n_layers: int = 2, seed: int = 1) -> Transformer:
    torch.manual_seed(seed)
    shape = LayerShape(8, 2, 12, "pre", "relu", 0.1, 0.1, 0.1)
    return Transformer(Vocabulary(10, 10, "three"), shape, 1, n_layers, Sinusoidal, 12)


def test_pieces_belong_to_words() -> None:
    tokenizer: Any = Pieces()
    assert words_of_pieces("ab cd e", tokenizer.encode("ab cd e"), tokenizer) == [0, 0, 1, 1, 2]
    assert words_written(tokenizer.encode("ab cd e"), tokenizer, 3) == [0, 0, 1, 1, 2]
    assert words_written([4, 9, 6], tokenizer, 2) == [0, 0, 1]  # a lone space adds no word
    assert words_written([], tokenizer, 0) == []


def test_an_alignment_by_hand() -> None:
    weights = np.zeros((2, 1, 3, 4))  # two layers of one head, three target pieces, three source pieces and EOS
    weights[0, 0] = [[0.1, 0.1, 0.2, 0.6], [0.0, 0.3, 0.4, 0.3], [0.9, 0.0, 0.0, 0.1]]
    weights[1, 0] = [[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    attention = Attention(["_a", "b", "_c", "</s>"], ["_a", "_c", "d"], weights, [0, 0, 1], [0, 1, 1])
    # Layer 1: word 0 looks at pieces a+b with 0.2 and at c with 0.2: the first; word 1 sums to 1.2 and 0.4.
    assert attention.alignment(1) == [(0, 0), (0, 1)]
    assert attention.alignment(2) == [(1, 0), (1, 1)]
    assert attention.alignment(None) == [(1, 0), (1, 1)]
    assert pharaoh(attention.alignment(1)) == "0-0 0-1"
    assert Attention(["</s>"], [], np.zeros((1, 1, 0, 1)), [], []).alignment(None) == []


class Marked(Pieces):
    """The same, with ids 10 and 11 for language tokens."""

    vocab_size, lowercase, samples = 12, False, False
    pieces = (*Pieces.pieces, "<2de>", "<2en>")

    def language_id(self, token: str) -> int:
        return 4 + self.pieces.index(token)


def test_a_language_token_is_no_word_of_the_line_unless_it_is_typed() -> None:
    tokenizer = Directed(cast(Any, Marked()), ("<2de>", "<2en>"))
    for line, words in (("ab c", [NO_WORD, 0, 0, 1]), ("<2en> ab c", [NO_WORD, 1, 1, 2]), ("", [])):
        assert words_of_pieces(line, tokenizer.encode(line), tokenizer) == words
    cut = tokenizer.encode("ab c")[:-1]
    assert words_of_pieces("ab c", cut, tokenizer) == [NO_WORD, 0, 0]
    weights = np.asarray([[[[0.7, 0.1, 0.2, 0.0]]]])  # most of it on the token
    assert Attention(["<2de>", "_a", "_c", "</s>"], ["_a"], weights, [NO_WORD, 0, 1], [0]).alignment(None) == [(1, 0)]
    assert Attention(["<2de>", "</s>"], ["_a"], weights[..., :2], [NO_WORD], [0]).alignment(None) == []


def test_attention_is_the_model_s_own_batched_or_alone() -> None:
    model = make_model()
    lines, ids = ["ab cd", "e", "ab ab ab"], [(4, 5, 8), (6, 7), (8, 8, 8, 4)]
    translations = [(Pieces().decode(i), i) for i in ids]
    together = attend([model], 1000, lines, translations)
    alone = attend([model], 1, lines, translations)
    for line, one, a, b in zip(lines, ids, together, alone, strict=True):
        np.testing.assert_allclose(a.weights, b.weights, atol=1e-6)
        src_ids = PAIR.src.encode(line)
        assert a.weights.shape == (2, 2, len(one), len(src_ids) + 1)
        np.testing.assert_allclose(a.weights.sum(-1), 1.0, atol=1e-6)
        src = torch.tensor([[*src_ids, EOS]])
        mask = torch.zeros_like(src, dtype=torch.bool)
        with torch.inference_mode():
            memory = model.eval().encode(src, mask)
            with model.recording() as recorded:
                model.decode(torch.tensor([[BOS, *one]]), memory, mask)
        expected = torch.stack(recorded.cross)[:, 0, :, : len(one)]
        np.testing.assert_allclose(a.weights, expected, atol=1e-6)


def test_an_ensemble_has_the_mean_and_must_have_one_shape() -> None:
    models = [make_model(seed=1), make_model(seed=2)]
    job: Any = (["ab cd"], [("a e", (4, 8))])
    one, two = (attend([model], 100, *job)[0].weights for model in models)
    both = attend(models, 100, *job)[0].weights
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-6)
    with pytest.raises(UserError, match="have 2 layers of 2 heads and 1 of 2, so there is no mean of their attention"):
        Aligner([models[0], make_model(1)], PAIR, 100, "cpu")


def test_training_mode_is_given_back_and_changes_nothing() -> None:
    model = make_model().train()
    job: Any = (["ab cd"], [("a e", (4, 8))])
    first = attend([model], 100, *job)[0].weights
    assert model.training
    np.testing.assert_array_equal(first, attend([model], 100, *job)[0].weights)
