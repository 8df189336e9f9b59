import os
import subprocess
import sys
from pathlib import Path

import pytest

from transformer.data.grammar import write_bundled
from transformer.data.grammar.generate import (
    COMPOSITIONAL,
    CONSTRUCTIONS,
    SIZES,
    Derivation,
    derive,
    english_words,
    main,
)
from transformer.data.grammar.holdout import held_out
from transformer.data.grammar.noun import NOUNS
from transformer.data.grammar.verb import VERBS

Corpus = dict[str, list[Derivation]]
BUNDLED = Path(__file__).parents[3] / "data" / "bundled"
SMALL = {"train": 3000, "validation": 30, "test": 30, COMPOSITIONAL: 30}


def test_counts(corpus: Corpus) -> None:
    assert {name: len(pairs) for name, pairs in corpus.items()} == dict(SIZES)
    assert list(corpus) == ["train", "validation", "test", "test_compositional"]


@pytest.mark.parametrize("side", ["en", "de"])
def test_no_sentence_occurs_twice_on_either_side(corpus: Corpus, side: str) -> None:
    sentences = [getattr(derivation, side) for split in corpus.values() for derivation in split]
    assert len(set(sentences)) == len(sentences)


def test_lengths(corpus: Corpus) -> None:
    for split in corpus.values():
        for derivation in split:
            assert 4 <= len(derivation.en.split()) <= 16
            assert 4 <= len(derivation.de.split()) <= 16
    words = [len(derivation.en.split()) for derivation in corpus["train"]]
    assert 8 <= sum(words) / len(words) <= 10


def test_spelling(corpus: Corpus) -> None:
    for split in corpus.values():
        for derivation in split:
            for text in (derivation.en, derivation.de):
                assert text[0] == text[0].upper()
                assert text[-1] in ".?"
                assert text.strip(" ,") == text
                assert not any(wrong in text for wrong in ("  ", " ,", ",,", ",.", ",?", "\n", "\r"))
            assert derivation.en[-1] == derivation.de[-1]


def test_every_construction_is_in_every_split(corpus: Corpus) -> None:
    names = {function.__name__ for _, function in CONSTRUCTIONS}
    assert {derivation.construction for derivation in corpus["train"]} == names
    assert sum(share for share, _ in CONSTRUCTIONS) == 100


def test_every_noun_and_verb_is_in_training(corpus: Corpus) -> None:
    known = {word for derivation in corpus["train"] for word in english_words(derivation.en)}
    assert {noun.en for noun in NOUNS} <= known
    assert {verb.en for verb in VERBS if verb.frame != "it"} <= known


def test_training_never_sees_a_held_out_combination(corpus: Corpus) -> None:
    for name in ("train", "validation", "test"):
        assert not any(held_out(use) for derivation in corpus[name] for use in derivation.uses)


def test_every_compositional_sentence_has_a_new_combination_of_known_parts(corpus: Corpus) -> None:
    seen = {use for derivation in corpus["train"] for use in derivation.uses}
    words = {(use.kind, use.word) for use in seen}
    constructions = {(use.kind, use.construction) for use in seen}
    for derivation in corpus[COMPOSITIONAL]:
        new = [use for use in derivation.uses if held_out(use)]
        assert new
        assert seen.isdisjoint(new)
        assert all((use.kind, use.word) in words and (use.kind, use.construction) in constructions for use in new)


def test_compositional_sentences_have_no_unknown_english_word(corpus: Corpus) -> None:
    known = {word for derivation in corpus["train"] for word in english_words(derivation.en)}
    assert all(known.issuperset(english_words(derivation.en)) for derivation in corpus[COMPOSITIONAL])


def test_all_kinds_are_held_out(corpus: Corpus) -> None:
    kinds = {use.kind for derivation in corpus[COMPOSITIONAL] for use in derivation.uses if held_out(use)}
    assert kinds == {"compound", "adjective", "noun", "verb"}


def test_the_committed_files_are_what_the_grammar_makes(corpus: Corpus) -> None:
    for name, derivations in corpus.items():
        for side in ("en", "de"):
            made = "".join(getattr(derivation, side) + "\n" for derivation in derivations)
            path = BUNDLED / f"{name}.{side}"
            assert path.read_bytes() == made.encode("utf-8"), f"{path.name}: run transformer.data.grammar.generate"


def test_another_process_with_another_hash_seed_makes_the_same() -> None:
    script = (
        "import hashlib; from transformer.data.grammar.generate import derive;"
        f"print(hashlib.sha256(repr(derive(7, {SMALL!r})).encode()).hexdigest())"
    )
    digests = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert digests[0] == digests[1]


def test_another_seed_makes_another_corpus() -> None:
    first, second = derive(1, SMALL), derive(2, SMALL)
    assert first["test"] != second["test"]


def test_too_little_training_for_the_compositional_test_is_an_error() -> None:
    with pytest.raises(ValueError, match="make train larger"):
        derive(1, {"train": 10, "validation": 1, "test": 1, COMPOSITIONAL: 1000})


def test_files_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformer.data.grammar.generate.SIZES", SMALL)
    write_bundled(tmp_path / "new")
    files = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new").iterdir()}
    assert sorted(files) == sorted(f"{name}.{side}" for name in SMALL for side in ("en", "de"))
    for name, size in SMALL.items():
        assert files[f"{name}.en"].count("\n") == files[f"{name}.de"].count("\n") == size


def test_the_command_needs_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["generate"])
    with pytest.raises(SystemExit, match="usage"):
        main()
