"""A corpus in both directions for one model, which a token before each source line tells what to translate into."""

import re
from collections.abc import Sequence

import numpy as np

from transformer.data.batching import Batching
from transformer.data.corpus import Corpus, Part, inside, language_token
from transformer.data.mixture import MixtureCorpus
from transformer.error import UserError


class BidirectionalCorpus(Corpus):
    """Another corpus, trained on both ways (Johnson et al., 2017); validation and test splits stay as they are.

    Source lines need a language token, <2de> for German. Those of the corpus's own direction are plain, for the
    tokenizers put the token there, as they do for every line that a user translates; those of the other direction begin
    with theirs.
    """

    def __init__(self, corpus: Corpus | None, both: bool) -> None:
        """See configs/data/bidirectional.yaml for the meaning of the arguments.

        Raises:
            UserError: there is no corpus, or one that has language tokens already, or one of a single language, or a
                language whose name makes no token.
        """
        if corpus is None:
            raise UserError("data.corpus is null; add one with +data@data.corpus=multi30k (or another of configs/data)")
        if corpus.language_tokens:
            raise UserError("data.corpus is bidirectional itself; say data.both=true or false there, or leave one out")
        super().__init__(corpus.src_language, corpus.tgt_language)
        if self.src_language == self.tgt_language:
            raise UserError(f"data.corpus translates {self.src_language} into {self.tgt_language}; name two languages")
        for key, language in (("src_language", self.src_language), ("tgt_language", self.tgt_language)):
            if not re.fullmatch(r"[^\s<>]+", language):
                raise UserError(
                    f"data.corpus.{key} is {language!r}, but becomes the token {language_token(language)} before lines "
                    "of text; give it a name without blanks, < and >"
                )
        self.corpus, self.both = corpus, both
        self.language_tokens = tuple(sorted(map(language_token, (self.src_language, self.tgt_language))))

    def prepare(self, splits: Sequence[str] | None = None) -> None:
        """Puts the files of the corpus in place."""
        with inside("corpus"):
            self.corpus.prepare(splits)

    def check_validation(self) -> None:
        """See Corpus; the corpus inside is asked."""
        with inside("corpus"):
            self.corpus.check_validation()

    def splits(self) -> list[str]:
        """Those of the corpus."""
        return self.corpus.splits()

    def parts(self, split: str) -> list[Part]:
        """The files of the corpus; for training all of them once more, the other way round."""
        parts = self.corpus.parts(split)
        if split != "train" or not self.both:
            return parts
        return parts + [Part(part.src, part.tgt, language_token(self.src_language)) for part in parts]

    def for_vocabulary(self) -> "BidirectionalCorpus":
        """One direction has all the text, so both settings of `both` have the same vocabulary."""
        return BidirectionalCorpus(self.corpus.for_vocabulary(), False)

    def mixed(self, batching: Batching, lines: np.ndarray) -> Batching:
        """What the corpus does: if it is a mixture, its shares are those of both directions together."""
        if not (self.both and isinstance(self.corpus, MixtureCorpus)):  # others do not look at the lines
            return self.corpus.mixed(batching, lines)
        n_pairs = sum(1 for _ in self.corpus.pairs("train"))
        return self.corpus.mixed(batching, (lines - 1) % n_pairs + 1)
