import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.decoding.phrase import Phrases, contains, longest

tokens = st.integers(4, 6)
phrase_lists = st.lists(st.lists(tokens, min_size=1, max_size=5), min_size=1, max_size=3)


def progress_by_hand(ids, phrase):
    """Return the longest proper beginning of the phrase that ids end with, or its size where it is complete."""
    for size in range(len(phrase), 0, -1):
        if ids[len(ids) - size :] == phrase[:size] and len(ids) >= size:
            return size
    return 0


@given(phrase_lists, phrase_lists, st.lists(st.tuples(tokens, tokens), max_size=20))
@settings(max_examples=300)
def test_progress_is_that_of_comparing_the_last_tokens(first, second, pairs):
    phrases = Phrases([first, second], torch.device("cpu"))
    progress = torch.zeros_like(phrases.sizes)
    # Behind a complete phrase its search goes on from nothing; so does the comparison.
    seen = [[[] for _ in first], [[] for _ in second]]
    for pair in pairs:
        progress = phrases.extended(progress, torch.tensor(pair))
        for row, (token, sentence) in enumerate(zip(pair, (first, second), strict=True)):
            for i, phrase in enumerate(sentence):
                seen[row][i].append(token)
                assert int(progress[row, i]) == progress_by_hand(seen[row][i], phrase)
                if int(progress[row, i]) == len(phrase):
                    seen[row][i].clear()
        progress = progress.masked_fill(progress == phrases.sizes, 0)


def test_many_hypotheses_at_once():
    phrases = Phrases([[[4, 5], [5]], [[4, 4, 6]]], torch.device("cpu"))
    progress = torch.zeros(2, 3, 1, 2, dtype=torch.long)
    tokens = torch.tensor([[[4, 5], [6, 4], [5, 5]], [[4, 4], [6, 6], [5, 4]]])
    extended = phrases.extended(progress, tokens)
    assert extended.shape == (2, 3, 2, 2)
    assert extended[0, 0].tolist() == [[1, 0], [0, 1]]
    assert extended[1, 0].tolist() == [[1, 0], [1, 0]]


def test_next_tokens_and_keep():
    phrases = Phrases([[[4, 5], [6]], [[7, 8, 9]]], torch.device("cpu"))
    assert phrases.sizes.tolist() == [[2, 1], [3, 0]]
    assert phrases.tokens_at(torch.tensor([[1, 0], [2, 0]])).tolist() == [[5, 6], [9, -1]]
    phrases.keep(torch.tensor([1]))
    assert phrases.sizes.tolist() == [[3, 0]]
    assert phrases.tokens_at(torch.tensor([[0, 0]])).tolist() == [[7, -1]]


@given(st.lists(tokens, max_size=8), st.lists(tokens, min_size=1, max_size=3))
def test_contains(ids, phrase):
    text, part = "".join(map(str, ids)), "".join(map(str, phrase))
    assert contains(ids, phrase) == (part in text)


def test_phrases_inside_others_are_left_out():
    assert longest([(4,), (5, 4), (6,), (5, 4), (4, 6, 4)]) == [(4, 6, 4), (5, 4)]
