"""The bundled corpus: draws sentences, keeps them distinct on both sides, and deals them out to the splits.

`python -m transformer.data.grammar.generate FOLDER` writes it.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from transformer.data.grammar import construct, subordinate
from transformer.data.grammar.holdout import Use, held_out
from transformer.data.grammar.sampler import Sampler

SEED = 2026
SIZES: Mapping[str, int] = {"train": 20_000, "validation": 1_000, "test": 1_000, "test_compositional": 1_000}

# How many of a hundred sentences each construction makes.
CONSTRUCTIONS: tuple[tuple[int, Callable[[Sampler], tuple[str, str]]], ...] = (
    (20, construct.statement),
    (10, construct.fronted),
    (3, construct.possession),
    (4, construct.yes_no_question),
    (6, construct.wh_question),
    (3, construct.command),
    (4, construct.description),
    (2, construct.comparison),
    (1, construct.profession),
    (3, construct.measure),
    (2, construct.year),
    (1, construct.existence),
    (4, construct.passive),
    (9, subordinate.reason),
    (6, subordinate.temporal),
    (6, subordinate.complement),
    (1, subordinate.weather),
    (2, subordinate.purpose),
    (3, subordinate.attempt),
    (3, subordinate.relative_subject),
    (4, subordinate.relative_object),
    (3, subordinate.coordination),
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
        sampler.uses.clear()
        function = sampler.pick(dealt)
        en, de = function(sampler)
        lengths = (len(en.split()), len(de.split()))
        if min(lengths) < _MIN_WORDS or max(lengths) > _MAX_WORDS or en in seen_en or de in seen_de:
            continue
        seen_en.add(en)
        seen_de.add(de)
        yield Derivation(en, de, function.__name__, tuple(sampler.uses))


def derive(seed: int, sizes: Mapping[str, int]) -> dict[str, list[Derivation]]:
    """The splits as derivations: held-out combinations go to test_compositional, the rest is dealt in the order drawn.

    The plain tests are filled first, every fourth sentence until full, so that all splits come from the same mixture.
    """
    splits: dict[str, list[Derivation]] = {name: [] for name in sizes}
    plain = [name for name in sizes if name != "test_compositional"]
    turn = 0
    for derivation in draw(seed):
        if derivation.compositional:
            open_splits = ["test_compositional"]
        else:
            open_splits = [name for name in plain if len(splits[name]) < sizes[name]]
            open_splits = open_splits[turn % len(open_splits) :] if open_splits else []
            turn += 1
        for name in open_splits[:1]:
            if len(splits[name]) < sizes[name]:
                splits[name].append(derivation)
        if all(len(splits[name]) == sizes[name] for name in sizes):
            return splits
    raise AssertionError("draw is endless")


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
