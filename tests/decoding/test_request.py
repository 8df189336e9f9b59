import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data.corpus import FilesCorpus
from transformer.data.tokenizer.subword import SubwordTrainer
from transformer.data.tokenizer.word import WordTrainer
from transformer.decoding.beam import Beam
from transformer.decoding.penalty import Wu
from transformer.decoding.request import Constraint, Request
from transformer.decoding.rule import MinLength, NoUnknown
from transformer.decoding.translator import LengthLimit, Translator
from transformer.error import UserError
from transformer.special import EOS

LINES = [
    "ein hund läuft über das gras",
    "der hund bellt und die katze schläft",
    "zwei hunde laufen am strand",
    "eine frau mit einem roten hut",
    "ein mann fährt ein fahrrad",
    "kinder spielen fußball im park",
    "der rote hut liegt auf dem tisch",
]
WORDS = sorted({word for line in LINES for word in line.split()})


def corpus(folder):
    path = folder / "text"
    path.write_text("".join(line + "\n" for line in LINES * 5), encoding="utf-8")
    files = {"src": str(path), "tgt": str(path)}
    return FilesCorpus("de", "de", files, files, {})


@pytest.fixture(scope="module")
def subwords(tmp_path_factory):
    trainer = SubwordTrainer("bpe", 80, True, True, "nmt_nfkc", 1.0, False, 0.0)
    return trainer.train(corpus(tmp_path_factory.mktemp("subword")))


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return WordTrainer(True, True, 1, None, None, None).train(corpus(tmp_path_factory.mktemp("word")))


@pytest.fixture(scope="module", params=["subwords", "words"])
def tokenizers(request):
    return request.getfixturevalue(request.param)


def translator(tokenizers, script, scripted_model, width=3, max_len=None):
    model = scripted_model(script)
    model.max_len = max_len
    return Translator(model, tokenizers, Beam(width, width, Wu(1.0), True), 1000, LengthLimit(1.0, 5), "cpu")


@given(
    st.integers(0, 10**6),
    st.lists(st.sampled_from(WORDS), max_size=2).map(" ".join),
    st.lists(st.sampled_from([*WORDS, "der hund", "roten hut"]), max_size=2).map(tuple),
    st.lists(st.sampled_from(WORDS), max_size=3, unique=True).map(tuple),
    st.integers(1, 3),
)
@settings(max_examples=25, deadline=None)
def test_demands_are_always_met(tokenizers, scripted_model, make_script, seed, prefix, required, forbidden, width):
    demanded = [prefix, *required]
    forbidden = tuple(word for word in forbidden if not any(word in text.split() for text in demanded))
    script = make_script(tokenizers.tgt.vocab_size, seed, eos_bonus=2.0)
    requests = [Request("ein hund", prefix, required, forbidden), Request("der mann"), Request("")]
    plain, changed = [translator(tokenizers, script, scripted_model, width) for _ in range(2)]
    found = list(changed.translate_requests(requests))
    for translation in found[0]:
        assert translation.text.startswith(prefix)
        assert all(phrase in translation.text for phrase in required)
        assert not any(re.search(rf"\b{word}\b", translation.text) for word in forbidden)
    assert found[1:] == list(plain.translate(["der mann", ""]))


def test_a_forbidden_word_is_found_however_it_is_spelt(subwords, scripted_model):
    tgt = subwords.tgt
    whole = tgt.encode("hund")
    # The script spells it letter by letter; that is the likeliest translation.
    letters = [i for i in range(tgt.vocab_size) if tgt.tokens([i]) == ["▁"]]
    letters += [next(i for i in range(tgt.vocab_size) if tgt.tokens([i]) == [letter]) for letter in "hund"]
    assert tgt.decode(letters) == "hund"
    assert letters != whole

    def script(sentence, prefix):
        logits = torch.zeros(tgt.vocab_size)
        logits[EOS] = -9.0
        spelling = [*letters, EOS]
        if list(prefix) == spelling[: len(prefix)]:
            logits[spelling[len(prefix)]] = 9.0
        elif list(prefix) == whole:
            logits[EOS] = 5.0
        return logits

    [[best, *_]] = translator(subwords, script, scripted_model).translate(["ein hund"])
    assert best.text == "hund"
    [found] = translator(subwords, script, scripted_model).translate_requests([Request("ein", forbidden=("Hund",))])
    assert not any(re.search(r"\bhund\b", translation.text) for translation in found)


def test_only_the_guilty_tokens_are_forbidden(subwords):
    tgt = subwords.tgt
    constraint = Constraint(Request("x", forbidden=("hund",)), tgt)
    assert not constraint.learn([tgt.encode("zwei hunde"), tgt.encode("die katze")])
    assert constraint.demand.forbidden == ()
    assert constraint.learn([tgt.encode("zwei hunde und ein hund läuft")])
    assert [tgt.decode(ids) for ids in constraint.demand.forbidden] == ["hund"]
    assert not constraint.learn([tgt.encode("ein hund")])


class Pieces:
    """A tokenizer of four pieces, one of which stands inside words only."""

    pieces = ("▁schäfer", "hund", "▁hund", "▁bellt")

    def encode(self, line):
        return [4 + self.pieces.index(f"▁{word}") for word in line.split()]

    def decode(self, ids):
        return "".join(self.pieces[i - 4] for i in ids).replace("▁", " ").strip()


class Compounds(Pieces):
    """A tokenizer that writes one word as two pieces, the first of which is a word too."""

    pieces = ("▁hund", "ehütte", "▁bellt")

    def encode(self, line):
        return [4, 5] if line == "hundehütte" else super().encode(line)


def test_a_piece_of_another_word_is_not_guilty():
    constraint = Constraint(Request("x", forbidden=("hund",)), Pieces())
    assert not constraint.learn([[4, 5, 7]])
    assert constraint.learn([[4, 5, 6, 7]])
    assert constraint.demand.forbidden == ((6,),)


def test_what_stands_in_the_prefix_is_forbidden_with_what_follows_it_alone():
    """The prefix holds the piece that alone would write the forbidden word."""
    pieces = Compounds()
    constraint = Constraint(Request("x", prefix="hundehütte", forbidden=("hund",)), pieces)
    assert constraint.learn([[4, 5, 4, 6]])  # hundehütte hund bellt
    assert constraint.learn([[4, 5, 4]])  # hundehütte hund
    assert constraint.demand.forbidden == ((4, EOS), (4, 6))
    constraint.demand.check(9)


class Signs:
    """A tokenizer whose pieces are characters."""

    def encode(self, line):
        return [ord(character) for character in line]

    def decode(self, ids):
        return "".join(map(chr, ids))


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        (".", "das ist es.", True),
        ("?", "ist es das?", True),
        ("T-", "ein T-Shirt", True),
        ("T-", "ein ET-Shirt", False),
        ("-", "T-Shirt", True),
        ("ist", "das ist es", True),
        ("ist", "das isst er", False),
        ("is", "das ist", False),
        ("es.", "dieses.", False),
    ],
)
def test_a_phrase_ends_where_no_letter_goes_on_and_a_sign_anywhere(phrase, text, found):
    constraint = Constraint(Request("x", forbidden=(phrase,)), Signs())
    assert constraint.learn([Signs().encode(text)]) is found


def test_blanks_around_a_prefix_are_none_of_it():
    assert Constraint(Request("x", prefix=" ab "), Signs()).demand.prefix == tuple(Signs().encode("ab"))


def test_what_the_vocabulary_cannot_write_is_refused_with_the_line(words, scripted_model, make_script):
    work = translator(words, make_script(words.tgt.vocab_size, 1), scripted_model)
    requests = [Request("ein hund"), Request("ein hund", required=("Giraffe",))]
    with pytest.raises(UserError, match=r"line 2: the vocabulary of the model cannot write 'Giraffe'"):
        list(work.translate_requests(requests))


def test_an_unwritable_word_is_easily_avoided(words, scripted_model, make_script):
    work = translator(words, make_script(words.tgt.vocab_size, 1), scripted_model)
    plain = list(work.translate(["ein hund"]))
    assert list(work.translate_requests([Request("ein hund", forbidden=("Giraffe",))])) == plain


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(" ", prefix="der"), "line 1: it is blank"),
        (Request("ein", required=("der rote hut",), forbidden=("rote",)), "line 1: 'rote' is demanded and forbidden"),
        (Request("ein", forbidden=(" ",)), "line 1: a forbidden phrase is blank"),
        (Request("ein", required=("der hund", "eine frau", "zwei hunde")), "line 1: the prefix and the required"),
    ],
)
def test_impossible_demands_are_refused(words, scripted_model, make_script, request_, said):
    work = translator(words, make_script(words.tgt.vocab_size, 1), scripted_model, max_len=6)
    with pytest.raises(UserError, match=said):
        list(work.translate_requests([request_]))


def test_a_demand_that_fails_in_the_search_names_its_line(words, scripted_model, make_script):
    model = scripted_model(make_script(words.tgt.vocab_size, 1))
    search = Beam(3, 1, Wu(1.0), True, [NoUnknown(), MinLength(0.0, 4)])
    work = Translator(model, words, search, 1000, LengthLimit(1.0, 5), "cpu")
    requests = [Request("ein"), Request("ein hund", forbidden=tuple(WORDS))]
    with pytest.raises(UserError, match="line 2: no translation of at most 7 tokens"):
        list(work.translate_requests(requests))


def test_a_line_break_written_by_byte_tokens_does_not_shift_lines(tmp_path, scripted_model):
    trainer = SubwordTrainer("bpe", 340, True, True, "nmt_nfkc", 1.0, True, 0.0)
    pair = trainer.train(corpus(tmp_path))
    line_break = next(i for i in range(pair.tgt.vocab_size) if pair.tgt.tokens([i]) == ["<0x0A>"])
    hund = pair.tgt.encode("hund")
    wish = [*hund, line_break, *hund, EOS]

    def script(sentence, prefix):
        logits = torch.zeros(pair.tgt.vocab_size)
        logits[EOS] = -20.0  # or it would tie with all that is not wished
        logits[wish[min(len(prefix), len(wish) - 1)]] = 20.0
        return logits

    [[best, *_]] = translator(pair, script, scripted_model).translate(["ein hund läuft"])
    assert best.tokens[1] == "<0x0A>"
    assert "\n" not in best.text
    assert best.text.split() == ["hund", "hund"]
