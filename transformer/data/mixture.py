"""Several corpora trained on together, each with a share of its own in every epoch."""

from collections.abc import Mapping, Sequence

import numpy as np

from transformer.data.batching import Batching
from transformer.data.corpus import Corpus, Part, check_name, inside
from transformer.error import UserError


class MixtureCorpus(Corpus):
    """The training splits of several corpora, in shares that need not be those of their sizes.

    Test splits are called NAME_SPLIT, after the corpus that they come from. Only one corpus needs a validation split.
    """

    def __init__(
        self,
        corpora: Mapping[str, Corpus],
        temperature: float,
        weights: Mapping[str, float],
        validation: str | None,
    ) -> None:
        """See configs/data/mixture.yaml for the meaning of the arguments.

        Raises:
            UserError: there is no corpus; languages differ; weights or validation name an unknown corpus, or weights
                leave one out; a weight or the temperature is not above 0; a corpus is a mixture itself; two test splits
                get the same name.
        """
        if not corpora:
            raise UserError(
                "data.corpora is empty; add one with +data@data.corpora.NAME=files (or another of configs/data)"
            )
        self.corpora = dict(corpora)
        languages = {name: (c.src_language, c.tgt_language) for name, c in self.corpora.items()}
        first = next(iter(languages))
        for name, pair in languages.items():
            if pair != languages[first]:
                raise UserError(
                    f"data.corpora.{name} translates {pair[0]} into {pair[1]}, but data.corpora.{first} "
                    f"{languages[first][0]} into {languages[first][1]}; set its src_language and tgt_language alike"
                )
        super().__init__(*languages[first])
        for name in self.corpora:
            check_name(f"data.corpora.{name}", name)
        for name, corpus in self.corpora.items():
            if isinstance(getattr(corpus, "corpus", corpus), MixtureCorpus):  # by itself, or in both directions
                raise UserError(
                    f"data.corpora.{name} is a mixture itself, whose shares would be lost; name its corpora beside the "
                    "others, and give data.weights"
                )
        if not 0 < temperature < float("inf"):
            raise UserError(f"data.temperature is {temperature}, but must be above 0 and finite")
        if weights and set(weights) != set(self.corpora):
            raise UserError(
                f"data.weights names {', '.join(weights)}, but data.corpora {', '.join(self.corpora)}; "
                "name each of them, or none"
            )
        for name, weight in weights.items():
            if not 0 < weight < float("inf"):
                raise UserError(f"data.weights.{name} is {weight}, but must be above 0 and finite")
        if validation is not None and validation not in self.corpora:
            raise UserError(f"data.validation is {validation}, but data.corpora has {', '.join(self.corpora)}")
        self.temperature, self.weights, self.validation = temperature, dict(weights), validation
        splits = self.splits()
        if twice := next((split for split in splits if splits.count(split) > 1), None):
            raise UserError(f"two test splits of data.corpora are called {twice}; give one of the corpora another name")
        self.language_tokens = next((c.language_tokens for c in self.corpora.values() if c.language_tokens), ())

    def for_vocabulary(self) -> "MixtureCorpus":
        """The same of the corpora's texts for vocabularies."""
        corpora = {name: corpus.for_vocabulary() for name, corpus in self.corpora.items()}
        return MixtureCorpus(corpora, self.temperature, self.weights, self.validation)

    def check_validation(self) -> None:
        """See Corpus; it is enough that one of the corpora has something to validate on."""
        if not self.parts("validation"):
            if self.validation is None:
                raise UserError(
                    "no corpus of data.corpora has a validation split; give one of them files to validate on"
                )
            raise UserError(
                f"data.corpora.{self.validation} has no validation split; give it files to validate on, or name "
                "another corpus as data.validation"
            )

    def prepare(self, splits: Sequence[str] | None = None) -> None:
        """Puts the files in place of the corpora that the splits come from, or of all."""
        for name, corpus in self.corpora.items():
            own = [inside[name] for inside in map(self._inside, splits or ()) if name in inside]
            if splits is None or own:
                with inside(f"corpora.{name}"):
                    corpus.prepare(own or None)

    def splits(self) -> list[str]:
        """Train, validation, then NAME_SPLIT for every test split of every corpus."""
        tests = [f"{name}_{split}" for name, corpus in self.corpora.items() for split in corpus.splits()[2:]]
        return ["train", "validation", *tests]

    def parts(self, split: str) -> list[Part]:
        """The files of the corpora, one corpus after the other."""
        return [part for name, own in self._inside(split).items() for part in self.corpora[name].parts(own)]

    def _inside(self, split: str) -> dict[str, str]:
        """The names of the corpora that a split comes from, in order, with what it is called there."""
        if split == "validation" and self.validation is not None:
            return {self.validation: split}
        if split in ("train", "validation"):
            return dict.fromkeys(self.corpora, split)
        name = next(name for name, c in self.corpora.items() if split in (f"{name}_{s}" for s in c.splits()[2:]))
        return {name: split.removeprefix(f"{name}_")}

    def mixed(self, batching: Batching, lines: np.ndarray) -> "Mixed":
        """The batching with which every corpus gets its share.

        Args:
            batching: plans an epoch once it is known what is in it.
            lines: (pairs,) integers; the number of each usable pair in the training split, from 1.

        Raises:
            UserError: no pair of a corpus is usable.
        """
        n_pairs = [sum(1 for _ in corpus.pairs("train")) for corpus in self.corpora.values()]
        corpus_of = np.searchsorted(np.cumsum(n_pairs), lines - 1, side="right")
        usable = np.bincount(corpus_of, minlength=len(n_pairs))
        for name, n in zip(self.corpora, usable.tolist(), strict=True):
            if not n:
                raise UserError(f"no pair of data.corpora.{name} can be trained on; leave it out, or see its text")
        weights = np.array([self.weights[name] for name in self.corpora] if self.weights else usable, dtype=float)
        shares = weights / weights.max()  # before the power, which would overflow
        shares = shares if self.weights else shares ** (1 / self.temperature)
        return Mixed(batching, corpus_of, shares, list(self.corpora))


class Mixed(Batching):
    """Draws anew in every epoch what is in it, and leaves the batches to another batching.

    An epoch has as many pairs as there are. Of a corpus whose share is larger than itself all pairs come once, or
    several times, and as many more drawn at random as are wanted; of another one a random part. The shares are those of
    the weights, and with a temperature T those of size^(1/T) (Arivazhagan et al., 2019).
    """

    def __init__(self, batching: Batching, corpus_of: np.ndarray, weights: np.ndarray, names: Sequence[str]) -> None:
        """Takes the corpus of each pair, (pairs,) integers, the weight of each corpus, (corpora,), and their names."""
        super().__init__(batching.max_tokens, batching.round_to)
        self._names = names
        self._batching = batching
        self._members = [np.flatnonzero(corpus_of == i) for i in range(len(weights))]
        self.counts = apportioned(len(corpus_of), weights)

    def told(self) -> list[str]:
        """How many pairs of each corpus an epoch has."""
        counts = zip(self._names, self.counts.tolist(), map(len, self._members), strict=True)
        told = []
        for name, n, size in counts:
            part = f"{n:,} of the {size:,}" if n < size else f"all {size:,}" if n == size else f"the {size:,}"
            times = f", {n / size:.3g} times" if n > size else ""
            told.append(f"an epoch has {part} pairs of {name}{times}")
        return told

    def plan(self, src_lengths: np.ndarray, tgt_lengths: np.ndarray, seed: int, epoch: int) -> list[np.ndarray]:
        """See Batching.plan, but a pair may be in several batches, or in none."""
        drawn = []
        for i, (members, n) in enumerate(zip(self._members, self.counts.tolist(), strict=True)):
            rng = np.random.default_rng([seed, epoch, i])
            times, more = divmod(n, len(members))
            drawn += [np.tile(members, times), rng.permutation(members)[:more]]
        indices = np.concatenate(drawn)
        batches = self._batching.plan(src_lengths[indices], tgt_lengths[indices], seed, epoch)
        return [indices[batch] for batch in batches]


def apportioned(n: int, weights: np.ndarray) -> np.ndarray:
    """n pairs in shares as the weights, each within one of its exact share (largest remainders); int64, their sum n."""
    exact = n * weights / weights.sum()
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: n - int(counts.sum())]] += 1
    return counts
