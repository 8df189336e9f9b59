import itertools
import logging
import multiprocessing

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from transformer.decoding.beam import Beam
from transformer.decoding.greedy import Greedy
from transformer.decoding.penalty import Wu
from transformer.decoding.request import Request
from transformer.decoding.search import Hypothesis, Search
from transformer.decoding.translator import SHORT, LengthLimit, Translator, alike, batches, evaluating, padded
from transformer.error import UserError
from transformer.processes import can_fork
from transformer.special import EOS, PAD

WORDS = ["<pad>", "<unk>", "<s>", "</s>", "a", "b", "c", "d", "e"]


class Words:
    """A tokenizer of single letters."""

    vocab_size = len(WORDS)
    lowercase = False

    def encode_lines(self, lines):
        assert all(line.strip() for line in lines)
        return [[WORDS.index(word) for word in line.split() if word != "?"] for line in lines]

    def encode(self, line):
        return self.encode_lines([line])[0]

    def decode(self, ids):
        return " ".join(WORDS[i] for i in ids)

    def tokens(self, ids):
        return [WORDS[i] for i in ids]


class Pair:
    src = tgt = Words()
    joint = True


class Echo(Search):
    """Gives the source back, cut to the maximum length, and notes what it was given."""

    def __init__(self, width=1):
        self._width = width
        self.batches = []
        self.max_lengths = []

    @property
    def width(self):
        return self._width

    def _refills(self, batch):
        return False

    def _search(self, model, batch, flow):
        src, src_key_padding_mask, max_lengths = batch.src, batch.src_key_padding_mask, batch.max_lengths
        assert (batch.demands, flow.room) == (None, None)
        assert torch.is_inference_mode_enabled()
        assert torch.equal(src_key_padding_mask, src == PAD)
        assert src.shape[0] == max_lengths.shape[0]
        self.batches.append(src.tolist())
        self.max_lengths.append(max_lengths.tolist())
        rows = [[i for i in row if i != PAD] for row in src.tolist()]
        assert all(row[-1] == EOS for row in rows)
        return [
            [Hypothesis(row[:-1][: limit - 1], -float(len(row)), -1.0)]
            for row, limit in zip(rows, max_lengths.tolist(), strict=True)
        ]


class Model(nn.Module):
    def __init__(self, max_len=None):
        super().__init__()
        self.inner = nn.Dropout()
        self.max_len = max_len


def make(search, max_tokens=64, ratio=1.0, offset=1, model=None, buffer_lines=4096, refill=False):
    return Translator(
        model or Model(), Pair(), search, max_tokens, LengthLimit(ratio, offset), "cpu", buffer_lines, refill
    )


def make_with_processes(search, **settings):
    translator = make(search, **settings)
    translator.processes = True
    return translator


lines_of_words = st.lists(st.lists(st.sampled_from("abcde"), max_size=9).map(" ".join), max_size=30)


@given(lines_of_words, st.integers(1, 7), st.integers(1, 40), st.integers(1, 4))
@settings(deadline=None)
def test_every_line_gets_its_own_translation_in_order(lines, buffer_lines, max_tokens, width):
    translator = make(Echo(width), max_tokens=max_tokens, buffer_lines=buffer_lines)
    assert [best.text for [best] in translator.translate(lines)] == lines


@given(lines_of_words, st.integers(1, 40), st.integers(1, 4))
@settings(deadline=None)
def test_batches_keep_to_the_limit_and_leave_out_blank_lines(lines, max_tokens, width):
    search = Echo(width)
    list(make(search, max_tokens=max_tokens).translate(lines))
    for batch in search.batches:
        assert len(batch) == 1 or len(batch) * len(batch[0]) * width <= max_tokens
    assert sum(map(len, search.batches)) == sum(1 for line in lines if line)


def test_sentences_of_similar_length_go_together():
    search = Echo()
    lines = ["a", "a b c d e", "b", "b c d e a", "c"]
    list(make(search, max_tokens=12).translate(lines))
    assert [[len(row) for row in batch] for batch in search.batches] == [[6, 6], [2, 2, 2]]


@given(st.lists(st.integers(1, 200)))
def test_alike_leaves_nothing_out_and_puts_no_short_sentence_beside_a_long_one(lengths):
    found = list(alike(lengths))
    assert sorted(i for indices in found for i in indices) == [i for i, length in enumerate(lengths) if length > 1]
    for indices in found:
        together = [lengths[i] for i in indices]
        assert together == sorted(together, reverse=True)
        assert together[0] <= max(SHORT, 2 * together[-1])


def test_a_blank_line_has_one_empty_translation():
    translations = list(make(Echo()).translate(["a", "", "  \t ", "?", "b"]))
    assert [[t.text for t in best] for best in translations] == [["a"], [""], [""], [""], ["b"]]
    assert translations[1][0].tokens == []
    assert translations[1][0].log_prob == 0.0


def test_a_translation_carries_its_tokens_and_numbers():
    [[best]] = make(Echo()).translate(["a b"])
    assert (best.text, best.tokens, best.log_prob, best.score) == ("a b", ["a", "b"], -3.0, -1.0)


def test_lines_are_taken_a_buffer_at_a_time():
    taken = []

    def endless():
        for i in itertools.count():
            taken.append(i)
            yield "a b"

    stream = make(Echo(), buffer_lines=5).translate(endless())
    first = list(itertools.islice(stream, 5))
    assert len(first) == 5
    assert len(taken) == 5
    next(stream)
    assert len(taken) == 10


def test_maximum_lengths_follow_the_source():
    search = Echo()
    list(make(search, ratio=1.5, offset=3).translate(["a b c", "a"]))
    assert search.max_lengths == [[7, 4]]
    list(make(search, ratio=1e308, offset=3).translate(["a b c"]))
    assert search.max_lengths[1] == [2**30 + 3]


def test_a_source_beyond_the_model_is_cut_with_a_warning_that_names_the_line(caplog):
    search = Echo()
    translator = make(search, model=Model(max_len=4), offset=10, buffer_lines=2)
    with caplog.at_level(logging.WARNING):
        translations = list(translator.translate(["a", "b", "a b c", "a b c d e"], n_before=60))
    assert [best.text for [best] in translations] == ["a", "b", "a b c", "a b c"]
    assert [record.getMessage() for record in caplog.records] == [
        "line 64 has 6 source tokens with EOS, but the model takes 4: only its beginning is translated"
    ]
    assert search.max_lengths == [[4, 4], [4, 4]]


def test_the_mode_of_every_part_is_restored_even_between_lines():
    model = Model()
    model.inner.eval()
    seen = []

    class Watching(Echo):
        def search(self, model, *rest):
            seen.append((model.training, model.inner.training))
            return super().search(model, *rest)

    for _ in make(Watching(), model=model, buffer_lines=1).translate(["a", "b"]):
        assert (model.training, model.inner.training) == (True, False)
        assert not torch.is_inference_mode_enabled()
    assert seen == [(False, False)] * 2


def test_the_mode_is_restored_after_an_error():
    model = Model()
    with pytest.raises(ZeroDivisionError), evaluating(model):
        raise ZeroDivisionError
    assert model.training


def test_n_best_from_a_real_search(scripted_model, make_script):
    model = scripted_model(make_script(len(WORDS), 5))
    translator = make(Beam(4, 3, Wu(1.0), early_stopping=True), model=model, offset=5)
    for best in translator.translate(["a b c", "b"]):
        assert len(best) == 3
        assert [t.score for t in best] == sorted((t.score for t in best), reverse=True)
        assert len({t.text for t in best}) == 3


def test_the_same_in_one_batch_and_one_by_one(scripted_model, make_script):
    model = scripted_model(make_script(len(WORDS), 6))
    lines = ["a b c", "b", "", "e d c b a", "c a"]
    together = list(make(Greedy(), max_tokens=1000, offset=4, model=model).translate(lines))
    alone = list(make(Greedy(), max_tokens=1, offset=4, model=model).translate(lines))
    assert together == alone


def test_batches_of_nothing():
    assert list(batches([], 10)) == []
    assert list(batches([1, 1], 10)) == []


def test_padded():
    assert padded([[5, 6], [7]]).tolist() == [[5, 6], [7, PAD]]


@pytest.mark.parametrize(("setting", "value"), [("max_tokens", 0), ("ratio", -0.5), ("offset", 0), ("buffer_lines", 0)])
def test_impossible_settings_are_refused(setting, value):
    with pytest.raises(UserError, match=str(value)):
        make(Greedy(), **{setting: value})


def test_lines_are_told_when_they_are_found(scripted_model, make_script):
    model = scripted_model(make_script(len(WORDS), 6))
    translator, told = make(Greedy(), max_tokens=4, buffer_lines=4, model=model), []
    translator.told = told.append
    translations = translator.translate(["a b", "", "a b c", "d", "e"])
    next(translations)
    assert sum(told) == 4  # of a buffer, before its first line comes out
    assert told == [1, 1, 1, 1]  # the blank line, and each line when it has ended
    list(translations)
    assert sum(told) == 5


class Here(Beam):
    """Knows the process in which it searched, in which that can be seen."""

    def __init__(self):
        super().__init__(1, 1, Wu(0.0), early_stopping=True)
        self.n_batches = 0

    def _search(self, model, batch, flow):
        self.n_batches += 1
        return super()._search(model, batch, flow)


@pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")
@pytest.mark.parametrize("n_threads", [1, 2, 3])
@given(lines_of_words, st.integers(1, 20), st.integers(2, 30))
@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_in_processes(scripted_model, make_script, n_threads, lines, max_tokens, buffer_lines):
    model = scripted_model(make_script(len(WORDS), 6))
    expected = list(make(Here(), max_tokens=1, offset=4, model=model).translate(lines))
    torch.set_num_threads(n_threads)
    try:
        translator = make_with_processes(
            Here(), max_tokens=max_tokens, offset=4, model=model, buffer_lines=buffer_lines
        )
        told = []
        translator.told = told.append
        assert list(translator.translate(lines)) == expected
        assert sum(told) == len(lines)
    finally:
        torch.set_num_threads(1)


@pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")
@pytest.mark.parametrize(
    ("request_of", "n_lines", "n_threads", "n_here"),
    [
        (Request, 4, 2, 0),
        (Request, 4, 1, 2),
        (Request, 1, 2, 1),  # work for one
        (lambda line: Request(line, prefix="a"), 4, 2, 2),
    ],
)
def test_processes_search_where_there_is_work_for_all_and_nothing_is_demanded(
    scripted_model, make_script, request_of, n_lines, n_threads, n_here
):
    search = Here()
    model = scripted_model(make_script(len(WORDS), 6))
    translator = make_with_processes(search, max_tokens=4, offset=4, model=model)
    torch.set_num_threads(n_threads)
    try:
        found = list(translator.translate_requests([request_of("a")] * n_lines))
    finally:
        torch.set_num_threads(1)
    assert len(found) == n_lines
    assert search.n_batches == n_here


@pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")
def test_whoever_needs_no_more_leaves_no_process_behind(scripted_model, make_script):
    model = scripted_model(make_script(len(WORDS), 6))
    translator = make_with_processes(Here(), max_tokens=1, offset=4, model=model)
    torch.set_num_threads(2)
    try:
        translations = translator.translate(["a", "b", "c"])
        next(translations)
        assert len(multiprocessing.active_children()) == 2
        translations.close()
        assert multiprocessing.active_children() == []
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("refill", [False, True])
def test_the_same_with_workers_and_with_places_refilled(scripted_model, make_script, n_threads, refill):
    model = scripted_model(make_script(len(WORDS), 6))
    lines = ["a b c", "b", "", "e d c b a", "c a", "d", "d a", " ".join("abcde" * 5)]
    expected = list(make(Greedy(), max_tokens=1, offset=4, model=model).translate(lines))
    torch.set_num_threads(n_threads)
    for search in (Greedy(), Beam(1, 1, Wu(0.0), early_stopping=True)):
        translator, told = make(search, max_tokens=8, offset=4, model=model, refill=refill), []
        translator.told = told.append
        found = list(translator.translate(lines))
        assert [best[0].text for best in found] == [best[0].text for best in expected]
        assert sum(told) == len(lines)
    torch.set_num_threads(1)
