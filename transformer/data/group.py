"""Sentence pairs that belong together, and splits that never divide them."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from transformer.data.reader import Pair

_NO_WORD = re.compile(r"[\W_]+")


def normalised(sentence: str) -> str:
    """What two sentences have in common that differ in case, punctuation and spaces only: their letters and digits.

    Unicode NFKC, case folded ("ß" as "ss"), and of that letters and digits. A sentence without any is left as it is.
    """
    folded = unicodedata.normalize("NFKC", sentence).casefold()
    return _NO_WORD.sub("", folded) or sentence.strip()


def groups(pairs: Sequence[Pair]) -> list[list[int]]:
    """The pairs, by index, in groups: two that share a normalised sentence are in one, and so on from pair to pair.

    A sentence counts as shared whichever side it is on. Groups and indices ascend.
    """
    above: dict[str, str] = {}  # sentence -> another of its group, or itself at the top

    def top(sentence: str) -> str:
        above.setdefault(sentence, sentence)
        while above[sentence] != sentence:
            above[sentence] = above[above[sentence]]  # halves the way for the next search
            sentence = above[sentence]
        return sentence

    keys = [normalised(pair.src) for pair in pairs]
    for key, pair in zip(keys, pairs, strict=True):
        above[top(normalised(pair.tgt))] = top(key)
    found: defaultdict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        found[top(key)].append(i)
    return list(found.values())


def held_out(pairs: Sequence[Pair], sizes: Sequence[int], seed: int) -> list[list[int]]:
    """Draws whole groups of pairs into splits of the given sizes.

    The draw depends on the seed and on what is in a group, not on the order of the pairs. A group that would be too
    large for what is left of a split is passed over, so a split may stay smaller where no small ones are left.

    Returns:
        The indices of each split's pairs in the order drawn; what is in none of them shares no sentence with them.
    """
    waiting = sorted(groups(pairs), key=lambda group: _draw(seed, min(normalised(pairs[i].src) for i in group)))
    splits = []
    for size in sizes:
        split: list[int] = []
        passed = []
        for group in waiting:
            if len(split) + len(group) <= size:
                split += group
            else:
                passed.append(group)
        splits.append(split)
        waiting = passed
    return splits


def _draw(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed} {key}".encode()).digest()
