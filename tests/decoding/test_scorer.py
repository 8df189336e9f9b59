import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from transformer.decoding.beam import Beam
from transformer.decoding.penalty import Wu
from transformer.decoding.scorer import Scorer, token_log_probs
from transformer.decoding.translator import LengthLimit, Translator
from transformer.error import UserError
from transformer.special import EOS, PAD

WORDS = ["<pad>", "<unk>", "<s>", "</s>", *"abcdefg"]


class Words:
    """A tokenizer of single letters."""

    vocab_size = len(WORDS)

    def encode_lines(self, lines):
        return [[WORDS.index(word) for word in line.split()] for line in lines]

    def decode(self, ids):
        return " ".join(WORDS[i] for i in ids)

    def tokens(self, ids):
        return [WORDS[i] for i in ids]


class Pair:
    src = tgt = Words()


class Module(nn.Module):
    def __init__(self, scripted, max_len):
        super().__init__()
        self.start, self.step = scripted.start, scripted.step
        self.max_len = max_len


@given(st.integers(0, 10**6), st.lists(st.integers(1, 8), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_given_targets_score_what_the_search_said(scripted_model, make_script, run_search, seed, max_lengths):
    model = scripted_model(make_script(9, seed))
    sentences = list(range(len(max_lengths)))
    found = run_search(Beam(3, 3, Wu(1.0), True), model, sentences, max_lengths)
    rows = [(i, hypothesis) for i, hypotheses in enumerate(found) for hypothesis in hypotheses]
    longest = max(len(hypothesis.ids) for _, hypothesis in rows) + 1
    targets = torch.full((len(rows), longest), PAD)
    for row, (_, hypothesis) in zip(targets, rows, strict=True):
        row[: len(hypothesis.ids) + 1] = torch.tensor([*hypothesis.ids, EOS])
    src = torch.tensor([[i] for i, _ in rows])
    log_probs = token_log_probs(model, src, torch.zeros_like(src, dtype=torch.bool), targets)
    assert log_probs.shape == targets.shape
    assert (log_probs[targets == PAD] == 0).all()
    assert log_probs.sum(1).tolist() == pytest.approx([hypothesis.log_prob for _, hypothesis in rows], abs=1e-5)


@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(*[st.lists(st.sampled_from("abcdefg"), max_size=5).map(" ".join)] * 2), max_size=12),
    st.integers(1, 30),
    st.integers(1, 5),
)
@settings(max_examples=25, deadline=None)
def test_pairs_of_lines_in_order(scripted_model, make_script, seed, pairs, max_tokens, buffer_lines):
    model = scripted_model(make_script(len(WORDS), seed))
    scores = list(Scorer(model, Pair(), max_tokens, "cpu", buffer_lines).score(pairs))
    assert len(scores) == len(pairs)
    for (src, tgt), score in zip(pairs, scores, strict=True):
        sentence = WORDS.index(src.split()[0]) if src else EOS
        ids = [WORDS.index(word) for word in tgt.split()]
        assert score.log_prob == pytest.approx(model.log_prob(sentence, ids), abs=1e-4)
        assert score.tokens == [*tgt.split(), "</s>"]
        assert sum(score.token_log_probs) == pytest.approx(score.log_prob)
        assert len(score.token_log_probs) == len(score.tokens)


def test_a_translation_scores_what_the_translator_said(scripted_model, make_script):
    model = scripted_model(make_script(len(WORDS), 3))
    lines = ["a b c", "d", "e f"]
    translator = Translator(model, Pair(), Beam(4, 1, Wu(1.0), True), 100, LengthLimit(1.0, 4), "cpu")
    translations = [best for [best] in translator.translate(lines)]
    scores = Scorer(model, Pair(), 100, "cpu").score(
        (line, best.text) for line, best in zip(lines, translations, strict=True)
    )
    assert [s.log_prob for s in scores] == pytest.approx([best.log_prob for best in translations], abs=1e-4)


def test_a_pair_too_long_for_the_model_is_refused(scripted_model, make_script):
    scorer = Scorer(Module(scripted_model(make_script(len(WORDS), 3)), max_len=3), Pair(), 100, "cpu", buffer_lines=2)
    pairs = [("a b", "a b"), ("a", "b"), ("a", "a b c")]
    with pytest.raises(UserError, match="the target of pair 3 has 4 tokens with EOS, but the model takes 3"):
        list(scorer.score(pairs))
    with pytest.raises(UserError, match="the source of pair 1 has 4 tokens"):
        list(scorer.score([("a b c", "a")]))


def test_a_model_that_gives_nan_is_refused(scripted_model):
    scorer = Scorer(scripted_model(lambda sentence, prefix: torch.full((len(WORDS),), torch.nan)), Pair(), 100, "cpu")
    with pytest.raises(UserError, match="the model's log-probabilities are not a number"):
        list(scorer.score([("a", "b")]))


def test_impossible_numbers_are_refused(scripted_model, make_script):
    with pytest.raises(UserError, match="max_tokens must be at least 1, not 0"):
        Scorer(scripted_model(make_script(9, 1)), Pair(), 0, "cpu")


def test_pairs_are_told_batch_by_batch(scripted_model, make_script):
    scorer, told = Scorer(scripted_model(make_script(len(WORDS), 1)), Pair, 6, "cpu"), []
    scorer.told = told.append
    assert len(list(scorer.score([("a", "b"), ("", ""), ("c d", "e")]))) == 3
    assert sum(told) == 3
    assert len(told) > 1
