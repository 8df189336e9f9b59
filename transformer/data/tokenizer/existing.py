"""The tokenizers of another run, so that models trained on different text have one vocabulary."""

import hashlib
from functools import cached_property
from pathlib import Path

from transformer.data.corpus import Corpus
from transformer.data.tokenizer.base import MANIFEST, TokenizerPair, TokenizerTrainer
from transformer.error import UserError

_INSIDE = "tokenizer"  # where a checkpoint has them


class ExistingTokenizer(TokenizerTrainer):
    """Takes the tokenizers that another run has trained, as they are.

    Models with one vocabulary can search together and compare their perplexities, whatever they were trained on.
    They are read when they are first asked for: a run that goes on has its own copy, in its checkpoint.
    """

    def __init__(self, folder: str, lowercase: bool) -> None:
        """Names the tokenizers.

        Args:
            folder: a checkpoint, or the folder `tokenizer` in one.
            lowercase: whether they lower-case text, which validation has to know.
        """
        self.folder = folder
        self.lowercase = lowercase

    @property
    def joint(self) -> bool:  # type: ignore[override]
        """Whether they are one vocabulary for both languages."""
        return self._tokenizers.joint

    def train(self, corpus: Corpus) -> TokenizerPair:
        """The tokenizers, whatever the corpus; they sample as they did.

        Raises:
            UserError: there are none in the folder, they are damaged, they do otherwise with capitals, or the corpus
                has language tokens that they lack.
        """
        return self._tokenizers.for_corpus(corpus)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the tokenizers' files: vocabularies, lower-casing and sampling."""
        vocabularies = self._tokenizers.fingerprint()
        return hashlib.sha256(vocabularies.encode() + (self._place / MANIFEST).read_bytes()).hexdigest()

    @property
    def _place(self) -> Path:
        inside = Path(self.folder) / _INSIDE
        return inside if inside.is_dir() else Path(self.folder)

    @cached_property
    def _tokenizers(self) -> TokenizerPair:
        pair = TokenizerPair.load(self._place)
        for side in (pair.src, pair.tgt):
            if side.lowercase != self.lowercase:
                does = "lower-case" if side.lowercase else "do not lower-case"
                raise UserError(
                    f"tokenizer.lowercase={str(self.lowercase).lower()}, but the tokenizers in "
                    f"tokenizer.folder={self.folder} {does} text; say tokenizer.lowercase={str(side.lowercase).lower()}"
                )
        return pair
