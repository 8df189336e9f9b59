"""The bundled corpus: draws sentences, keeps them distinct on both sides, and deals them out to the splits.

`python -m transformer.data.grammar.generate FOLDER` writes it.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from transformer.data.grammar import construct, relative, subordinate
from transformer.data.grammar.holdout import Use, held_out
from transformer.data.grammar.sampler import Sampler
from transformer.data.grammar.sentence import Sentence

SEED = 2026
COMPOSITIONAL = "test_compositional"
SIZES: Mapping[str, int] = {"train": 20_000, "validation": 1_000, "test": 1_000, COMPOSITIONAL: 1_000}

# How many of a hundred sentences each construction makes.
CONSTRUCTIONS: tuple[tuple[int, Callable[[Sampler], Sentence]], ...] = (
    (18, construct.statement),
    (9, construct.fronted),
    (2, construct.possession),
    (4, construct.yes_no_question),
    (3, construct.adverb_question),
    (1, construct.subject_question),
    (2, construct.object_question),
    (3, construct.command),
    (4, construct.description),
    (2, construct.comparison),
    (1, construct.profession),
    (3, construct.age),
    (2, construct.price),
    (2, construct.year),
    (1, construct.existence),
    (4, construct.passive),
    (8, subordinate.reason),
    (1, subordinate.weather),
    (6, subordinate.temporal),
    (6, subordinate.complement),
    (2, subordinate.purpose),
    (3, subordinate.attempt),
    (3, subordinate.coordination),
    (3, relative.relative_subject),
    (3, relative.relative_object),
    (4, relative.relative_description),
)
_MIN_WORDS, _MAX_WORDS = 4, 16


@dataclass(frozen=True)
class Derivation:
    """One sentence pair, the name of its construction, and the uses of words in it."""

    en: str
    de: str
    construction: str
    uses: tuple[Use, ...]

    @property
    def compositional(self) -> bool:
        """True when it holds a combination that training never sees."""
        return any(held_out(use) for use in self.uses)


def draw(seed: int) -> Iterator[Derivation]:
    """Endless derivations with 4 to 16 words a side, distinct on both sides."""
    sampler = Sampler(seed)
    dealt = [function for share, function in CONSTRUCTIONS for _ in range(share)]
    seen_en: set[str] = set()
    seen_de: set[str] = set()
    while True:
        function = sampler.pick(dealt)
        sentence = function(sampler)
        en, de = sentence.en, sentence.de
        lengths = (len(en.split()), len(de.split()))
        if min(lengths) < _MIN_WORDS or max(lengths) > _MAX_WORDS or en in seen_en or de in seen_de:
            continue
        seen_en.add(en)
        seen_de.add(de)
        yield Derivation(en, de, function.__name__, sentence.uses)


def derive(seed: int, sizes: Mapping[str, int]) -> dict[str, list[Derivation]]:
    """The splits as derivations, `test_compositional` from those with a held-out combination, the others from the rest.

    The rest is dealt in turn to each split that is not yet full, so all come from the same mixture. A compositional
    sentence is taken only if every English word of it is in training: its novelty is the combination, not a word.
    """
    plain = [name for name in sizes if name != COMPOSITIONAL]
    splits: dict[str, list[Derivation]] = {name: [] for name in sizes}
    candidates = []
    turn = 0
    for derivation in draw(seed):
        if derivation.compositional:
            candidates.append(derivation)
            continue
        unfilled = [name for name in plain if len(splits[name]) < sizes[name]]
        if not unfilled:
            break
        splits[unfilled[turn % len(unfilled)]].append(derivation)
        turn += 1
    known = {word for derivation in splits["train"] for word in english_words(derivation.en)}
    familiar = [candidate for candidate in candidates if known.issuperset(english_words(candidate.en))]
    splits[COMPOSITIONAL] = familiar[: sizes[COMPOSITIONAL]]
    for name, size in sizes.items():
        if len(splits[name]) != size:
            raise ValueError(f"{name} has {len(splits[name])} sentences instead of {size}; make train larger")
    return splits


def english_words(sentence: str) -> list[str]:
    """The words in lower case, without punctuation and without numbers in digits."""
    return [word for word in sentence.lower().replace(",", " ").strip(".?").split() if not word[0].isdigit()]


def generate(seed: int) -> dict[str, list[tuple[str, str]]]:
    """The splits as (English, German) pairs; the same for the same seed on every Python."""
    return {name: [(d.en, d.de) for d in derivations] for name, derivations in derive(seed, SIZES).items()}


def write(folder: Path, seed: int = SEED) -> None:
    """Write the eight files SPLIT.en and SPLIT.de, UTF-8, one sentence a line, each under a temporary name first."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pairs in generate(seed).items():
        for side, language in enumerate(("en", "de")):
            path = folder / f"{name}.{language}"
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            aside.write_bytes("".join(pair[side] + "\n" for pair in pairs).encode("utf-8"))
            os.replace(aside, path)


def main() -> None:
    """Write the corpus into the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m transformer.data.grammar.generate FOLDER")
    write(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
