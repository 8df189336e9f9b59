import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.decoding.greedy import Greedy
from transformer.special import BOS, EOS, PAD


def by_hand(model, sentence: int, max_length: int) -> list[int]:
    ids: list[int] = []
    while len(ids) < max_length - 1:
        logits = model.script(sentence, tuple(ids)).clone()
        logits[[PAD, BOS]] = float("-inf")
        token = int(logits.argmax())
        if token == EOS:
            break
        ids.append(token)
    return ids


@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=1, max_size=6), st.sampled_from([0.0, 1.0]))
@settings(max_examples=30, deadline=None)
def test_takes_the_likeliest_token_of_each_step(scripted_model, make_script, run_search, seed, max_lengths, rounding):
    model = scripted_model(make_script(8, seed, step=rounding))
    sentences = list(range(len(max_lengths)))
    found = run_search(Greedy(), model, sentences, max_lengths)
    for sentence, max_length, hypotheses in zip(sentences, max_lengths, found, strict=True):
        [hypothesis] = hypotheses
        assert hypothesis.ids == by_hand(model, sentence, max_length)
        assert hypothesis.log_prob == pytest.approx(model.log_prob(sentence, hypothesis.ids), abs=1e-4)
        assert hypothesis.score == hypothesis.log_prob


def test_pad_and_bos_are_never_produced(scripted_model, run_search):
    def script(sentence, prefix):
        logits = torch.zeros(7)
        logits[[PAD, BOS]] = 20.0
        logits[4 + len(prefix) % 3] = 1.0
        return logits

    [[hypothesis]] = run_search(Greedy(), scripted_model(script), [0], [6])
    assert hypothesis.ids == [4, 5, 6, 4, 5]


def test_a_limit_of_one_token_leaves_only_eos(scripted_model, make_script, run_search):
    model = scripted_model(make_script(8, 1))
    [[hypothesis]] = run_search(Greedy(), model, [3], [1])
    assert hypothesis.ids == []
    assert hypothesis.log_prob == pytest.approx(model.log_prob(3, []))


def test_finished_sentences_leave_the_batch(scripted_model, make_script, run_search):
    model = scripted_model(make_script(8, 2, eos_bonus=-50))
    run_search(Greedy(), model, [0, 1, 2], [2, 4, 3])
    assert model.rows_stepped == [3, 3, 2, 1]
