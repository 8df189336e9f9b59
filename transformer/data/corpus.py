"""Parallel corpora: their languages, splits and files. Text is read by reader.py, fetched by download.py."""

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from transformer.data.download import File, download, sha256, verify
from transformer.data.reader import Pair, read_aligned, read_tsv
from transformer.error import UserError

if TYPE_CHECKING:
    from transformer.data.batching import Batching

__all__ = ["BundledCorpus", "Corpus", "FilesCorpus", "Multi30kCorpus", "Pair"]

PathOrPaths: TypeAlias = str | Sequence[str] | None
"""One path, several whose texts follow one another, or None."""


def language_token(language: str) -> str:
    """What stands before source text that is to be translated into a language: <2de>."""
    return f"<2{language}>"


class Part(NamedTuple):
    """A piece of a split: two aligned files, or one TSV file as `src` with `tgt` None.

    With a language token in `reversed_as` its pairs are read the other way round, that token before each source line.
    """

    src: Path
    tgt: Path | None
    reversed_as: str | None = None

    def pairs(self) -> Iterator[Pair]:
        pairs = read_tsv(self.src) if self.tgt is None else read_aligned(self.src, self.tgt)
        if self.reversed_as is None:
            return pairs
        return (Pair(f"{self.reversed_as} {pair.tgt}", pair.src) for pair in pairs)

    def files(self) -> list[Path]:
        return [self.src] if self.tgt is None else [self.src, self.tgt]


class Corpus(ABC):
    """Sentence pairs in named splits: "train", "validation", then any number of test splits.

    Attributes:
        src_language: name of the language translated from, for example "en".
        tgt_language: name of the language translated into.
        language_tokens: tokens that a model for several directions has in its vocabulary, see
            transformer.data.bidirectional; none for one of a single direction.
    """

    language_tokens: tuple[str, ...] = ()

    def __init__(self, src_language: str, tgt_language: str) -> None:
        self.src_language = src_language
        self.tgt_language = tgt_language

    @abstractmethod
    def prepare(self, splits: Sequence[str] | None = None) -> None:
        """Puts the files in place (generates, downloads) or checks that they are there.

        Args:
            splits: the ones that are needed, by their exact names; None for all.

        Raises:
            UserError: a file is missing and cannot be had, or is not what it should be.
        """

    @abstractmethod
    def splits(self) -> list[str]:
        """The names of the splits: "train", "validation", then the test splits in order."""

    @abstractmethod
    def parts(self, split: str) -> list[Part]:
        """The files of a split, in order."""

    def files(self, splits: Sequence[str] | None = None) -> list[Path]:
        """The files of some splits, by their exact names, or of all."""
        wanted = self.splits() if splits is None else splits
        return [file for split in wanted for part in self.parts(split) for file in part.files()]

    def check_validation(self) -> None:
        """Refuses a corpus to validate on that has nothing for it; as a part of a mixture it may lack that.

        Raises:
            UserError: the validation split names no files.
        """
        if not self.parts("validation"):
            raise UserError("this corpus has no validation split; choose another one, or mix it with one that has")

    def resolve(self, split: str) -> str:
        """The exact name of a split; "test" means the first test split when no split has that very name.

        Raises:
            UserError: there is no such split; lists those there are.
        """
        names = self.splits()
        if split in names:
            return split
        if split == "test" and len(names) > 2:
            return names[2]
        raise UserError(f"there is no split {split!r}; this corpus has {', '.join(names)}")

    def pairs(self, split: str) -> Iterator[Pair]:
        """Streams every pair of a split, pairs with an empty side included.

        Raises:
            UserError: a file is missing, not UTF-8, damaged, or two files differ in their number of lines (raised at
                the end of the shorter); or the split has no line at all.
        """
        parts = self.parts(self.resolve(split))
        empty = True
        for part in parts:
            for pair in part.pairs():
                empty = False
                yield pair
        if empty:
            names = ", ".join(str(file) for part in parts for file in part.files())
            raise UserError(
                f"the split {split!r} has no lines at all ({names}); put text into the files or name others"
            )

    def for_vocabulary(self) -> "Corpus":
        """The corpus on whose training split the tokenizers of this one are trained."""
        return self

    def mixed(self, batching: "Batching", lines: np.ndarray) -> "Batching":
        """The batching of the training split: the one given, or one that also decides what is in an epoch.

        Args:
            batching: plans an epoch once it is known what is in it.
            lines: (pairs,) integers; the number of each usable pair in the training split, from 1.
        """
        return batching

    def fingerprint(self, split: str) -> str:
        """SHA-256 (hex) over the languages and the raw bytes of the split's files, in order.

        Raises:
            UserError: a file is missing or unreadable.
        """
        digest = hashlib.sha256(repr((self.src_language, self.tgt_language)).encode())
        for part in self.parts(self.resolve(split)):
            if part.reversed_as is not None:
                digest.update(f"\nreversed {part.reversed_as}".encode())
            for file in part.files():
                digest.update(f"\n{'tsv' if part.tgt is None else 'lines'}{file.suffix}".encode())
                try:
                    digest.update(sha256(file).encode())
                except OSError as error:
                    raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
        return digest.hexdigest()


@contextmanager
def inside(place: str) -> Iterator[None]:
    """Corrects the keys in what a corpus inside another one complains of: data.root is data.PLACE.root there.

    Raises:
        UserError: with the keys corrected.
    """
    try:
        yield
    except UserError as error:
        raise UserError(placed(str(error), place)) from error


def placed(sentence: str, place: str) -> str:
    """A sentence of a corpus that is data.PLACE and takes itself for data."""
    return re.sub(r"(?<![\w./])data\.(?=[a-z])", f"data.{place}.", sentence)


def check_languages(src_language: str, tgt_language: str) -> None:
    """Refuses languages other than English and German, one for each side.

    Raises:
        UserError: with both values.
    """
    if {src_language, tgt_language} != {"en", "de"}:
        raise UserError(
            f"src_language={src_language} and tgt_language={tgt_language}: this corpus has en and de, one for each side"
        )


def check_name(key: str, name: str) -> None:
    """Refuses a name that files cannot have, for a split's translations are files.

    Raises:
        UserError: with the key that it stands in.
    """
    if not name.strip(".") or "/" in name or "\0" in name:
        raise UserError(f"{key}: {name!r} becomes part of a file's name and cannot have a slash; give it another name")


class BundledCorpus(Corpus):
    """The small English-German corpus that comes with the project; written by transformer.data.grammar, never fetched.

    Its test split "test" has sentences like those in training, "test_compositional" new combinations of known words.
    """

    _SPLITS = ("train", "validation", "test", "test_compositional")

    def __init__(self, root: str, src_language: str, tgt_language: str) -> None:
        """See configs/data/bundled.yaml for the meaning of the arguments.

        Raises:
            UserError: the languages are not en and de.
        """
        check_languages(src_language, tgt_language)
        super().__init__(src_language, tgt_language)
        self.root = Path(root)

    def prepare(self, splits: Sequence[str] | None = None) -> None:
        """Generates all files if one of those needed is missing."""
        if all(file.is_file() for file in self.files(splits)):
            return
        from transformer.data.grammar import write_bundled  # only who lacks the files pays for the grammar

        try:
            self.root.mkdir(parents=True, exist_ok=True)
            write_bundled(self.root)
        except OSError as error:
            raise UserError(f"the bundled corpus cannot be written to data.root={self.root}: {error}") from error

    def splits(self) -> list[str]:
        """Train, validation, test, test_compositional."""
        return list(self._SPLITS)

    def parts(self, split: str) -> list[Part]:
        """One pair of files: SPLIT.en and SPLIT.de."""
        return [Part(self.root / f"{split}.{self.src_language}", self.root / f"{split}.{self.tgt_language}")]


class Multi30kCorpus(Corpus):
    """Multi30k, task 1, raw text: 29,000 + 1,014 + 1,000 English-German image captions (Elliott et al., 2016).

    Fetched from https://github.com/multi30k/dataset; the files are checked by size and SHA-256 each time.
    """

    URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
    FILES = (
        File("train.en.gz", 568929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
        File("train.de.gz", 637044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
        File("val.en.gz", 21650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
        File("val.de.gz", 24681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
        File("test_2016_flickr.en.gz", 21077, "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"),
        File("test_2016_flickr.de.gz", 22890, "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"),
    )
    _STEMS = {"train": "train", "validation": "val", "test_2016_flickr": "test_2016_flickr"}  # noqa: RUF012

    def __init__(self, root: str, src_language: str, tgt_language: str) -> None:
        """See configs/data/multi30k.yaml for the meaning of the arguments.

        Raises:
            UserError: the languages are not en and de.
        """
        check_languages(src_language, tgt_language)
        super().__init__(src_language, tgt_language)
        self.root = Path(root)

    def prepare(self, splits: Sequence[str] | None = None) -> None:
        """Checks the files in `root` and downloads those that are missing; writes nothing when all are there.

        Raises:
            UserError: the network fails, or a file differs from the official one.
        """
        needed = {path.name for path in self.files(splits)}
        for file in (file for file in self.FILES if file.name in needed):
            path = self.root / file.name
            url = f"{self.URL}/{file.name}"
            by_hand = f"fetch {url} yourself and put it into {self.root}, or say data.root=DIR for a folder that has it"
            if path.exists():
                verify(path, file, f"delete it to download it again, or {by_hand}")
            else:
                download(url, path, file, by_hand)

    def splits(self) -> list[str]:
        """Train, validation, test_2016_flickr."""
        return list(self._STEMS)

    def parts(self, split: str) -> list[Part]:
        """One pair of compressed files."""
        stem = self._STEMS[split]
        return [Part(self.root / f"{stem}.{self.src_language}.gz", self.root / f"{stem}.{self.tgt_language}.gz")]


class FilesCorpus(Corpus):
    """Any line-aligned files and TSV files, plain or compressed; several follow one another."""

    def __init__(
        self,
        src_language: str,
        tgt_language: str,
        train: Mapping[str, PathOrPaths],
        validation: Mapping[str, PathOrPaths],
        tests: Mapping[str, Mapping[str, PathOrPaths]],
    ) -> None:
        """See configs/data/files.yaml for the meaning of the arguments.

        Raises:
            UserError: train names no files; src and tgt name different numbers of files; unknown key; a test split is
                called train or validation.
        """
        super().__init__(src_language, tgt_language)
        self._parts: dict[str, list[Part]] = {}
        for name, files in (("train", train), ("validation", validation)):
            self._parts[name] = _parts_of(files, f"data.{name}")
        self._check("train")
        for name, files in tests.items():
            if name in ("train", "validation"):
                raise UserError(f"data.tests.{name}: a test split cannot be called {name}; give it another name")
            check_name(f"data.tests.{name}", name)
            if parts := _parts_of(files, f"data.tests.{name}"):
                self._parts[name] = parts

    def _check(self, name: str) -> None:
        if not self._parts[name]:
            raise UserError(
                f"data.{name} names no files; say data.{name}.src=FILE data.{name}.tgt=FILE or data.{name}.tsv=FILE"
            )

    def check_validation(self) -> None:
        """See Corpus."""
        self._check("validation")

    def prepare(self, splits: Sequence[str] | None = None) -> None:
        """Checks that every file is there and readable.

        Raises:
            UserError: naming the split and the file that is missing.
        """
        for split in self.splits() if splits is None else splits:
            for file in self.files([split]):
                if not file.is_file():
                    raise UserError(
                        f"the split {split!r} names {file}, which is not a file, seen from {Path.cwd()}; "
                        "correct the path"
                    )
                if not os.access(file, os.R_OK):
                    raise UserError(f"the split {split!r} names {file}, which you may not read; change its permissions")

    def splits(self) -> list[str]:
        """Train, validation, then the test splits that name files, in the order given."""
        return list(self._parts)

    def parts(self, split: str) -> list[Part]:
        """The aligned pairs of files in order, then the TSV files."""
        return self._parts[split]


def _paths(value: PathOrPaths, key: str) -> list[Path]:
    paths = [] if value is None else [value] if isinstance(value, str) else list(value)
    if "" in paths:
        raise UserError(f"{key} is empty; name a file, or leave it out")
    return [Path(path) for path in paths]


def _parts_of(files: Mapping[str, PathOrPaths], key: str) -> list[Part]:
    if unknown := sorted(set(files) - {"src", "tgt", "tsv"}):
        raise UserError(f"{key}.{unknown[0]} is not known; a split has src, tgt and tsv")
    src, tgt, tsv = (_paths(files.get(name), f"{key}.{name}") for name in ("src", "tgt", "tsv"))
    if len(src) != len(tgt):
        raise UserError(
            f"{key}.src names {len(src)} file{'s' * (len(src) != 1)} but {key}.tgt names {len(tgt)}; "
            "they are read in pairs, so name equally many"
        )
    return [Part(*pair) for pair in zip(src, tgt, strict=True)] + [Part(path, None) for path in tsv]
