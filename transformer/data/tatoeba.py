"""Tatoeba: everyday English-German sentence pairs out of an archive of manythings.org, split so that nothing leaks."""

import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from transformer.data.aside import written_aside
from transformer.data.corpus import Corpus, Pair, Part, check_languages
from transformer.data.download import File, download, sha256, verify
from transformer.data.group import held_out
from transformer.error import UserError

_SPLITS = ("train", "validation", "test")
_ABOUT = "_about.txt"  # licence and attribution, kept beside what is made of the archive


class TatoebaCorpus(Corpus):
    """Sentences of tatoeba.org, as https://www.manythings.org/anki gives them to learners (CC-BY 2.0).

    One sentence often has several translations. Pairs that share a sentence on either side, whatever its case,
    punctuation and spaces, go into the same split, see transformer.data.group.
    """

    def __init__(
        self,
        root: str,
        splits_root: str,
        url: str,
        size: int,
        sha256: str,
        split: Mapping[str, int],
        src_language: str,
        tgt_language: str,
    ) -> None:
        """See configs/data/tatoeba.yaml for the meaning of the arguments.

        Raises:
            UserError: the languages are not en and de; a split has no room for a pair; the URL names no file.
        """
        check_languages(src_language, tgt_language)
        super().__init__(src_language, tgt_language)
        name = Path(urlsplit(url).path).name
        if not name:
            raise UserError(f"data.url is {url}, but must be the address of a file, such as .../deu-eng.zip")
        for key in _SPLITS[1:]:
            if split[key] < 1:
                raise UserError(f"data.split.{key} is {split[key]}, but must be at least 1")
        self.root, self.url, self.file = Path(root), url, File(name, size, sha256)
        self.sizes, self.seed = [split[key] for key in _SPLITS[1:]], split["seed"]
        self.folder = Path(splits_root) / f"{sha256[:12]}-{self.sizes[0]}-{self.sizes[1]}-seed{self.seed}"

    def prepare(self, splits: Sequence[str] | None = None) -> None:
        """Finds or downloads the archive and writes the splits, all of them or none; does nothing where they are.

        Raises:
            UserError: the archive cannot be had, is another one, is damaged, or is too small for the splits.
        """
        if all(file.is_file() for file in self.files(splits)):
            return
        archive = self.root / self.file.name
        by_hand = (
            "the site replaces this archive from time to time: put the one that is expected into "
            f"{self.root}, or say data.root=DIR for a folder that has it, or for another one data.size and data.sha256"
        )
        if archive.exists():
            self._verify(archive, by_hand)
        else:
            download(self.url, archive, self.file, by_hand)
        pairs = list(read_archive(archive))
        drawn = self._split(archive, pairs)
        if all(file.is_file() for file in self.files()):  # another process was faster
            return
        if self.folder.exists():  # a file of it is missing
            shutil.rmtree(self.folder)
        with written_aside(self.folder) as scratch:
            for name, indices in zip(_SPLITS, drawn, strict=True):
                _write(scratch / f"{name}.en", (pairs[i].src for i in indices))
                _write(scratch / f"{name}.de", (pairs[i].tgt for i in indices))
            with zipfile.ZipFile(archive) as content:
                if _ABOUT in content.namelist():
                    (scratch / _ABOUT).write_bytes(content.read(_ABOUT))

    def splits(self) -> list[str]:
        """Train, validation, test."""
        return list(_SPLITS)

    def parts(self, split: str) -> list[Part]:
        """One pair of files: SPLIT.en and SPLIT.de."""
        return [Part(self.folder / f"{split}.{self.src_language}", self.folder / f"{split}.{self.tgt_language}")]

    def _verify(self, archive: Path, by_hand: str) -> None:
        try:
            verify(archive, self.file, by_hand)
        except UserError as error:
            if not archive.is_file():
                raise
            as_it_is = f"data.size={archive.stat().st_size} data.sha256={sha256(archive)}"
            raise UserError(f"{error} (this one: {as_it_is})") from error

    def _split(self, archive: Path, pairs: Sequence[Pair]) -> list[list[int]]:
        """The indices of train, validation and test."""
        validation, test = held_out(pairs, self.sizes, self.seed)
        taken = {*validation, *test}
        train = [i for i in range(len(pairs)) if i not in taken]
        if not (train and validation and test):
            raise UserError(
                f"{archive} has {len(pairs)} pairs, too few groups of them for data.split.validation={self.sizes[0]}, "
                f"data.split.test={self.sizes[1]} and a training split; choose smaller ones"
            )
        return [train, validation, test]


def read_archive(path: Path) -> Iterator[Pair]:
    r"""The English-German pairs of a ManyThings archive, in its order.

    Its one text file whose name does not begin with "_" has a pair a line: English, tab, German, and in archives since
    2019 another tab and an attribution. Lines end at \n.

    Raises:
        UserError: it is no such archive (with the line's number, if it is a line).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".txt") and not name.startswith("_")]
            if len(names) != 1:
                raise UserError(
                    f"{path} holds {', '.join(names) or 'no text'} where one text file must be; name another"
                )
            text = archive.read(names[0]).decode("utf-8-sig")
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"{path} cannot be read as a zip archive ({error}); delete it to download it again") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {names[0]} is not UTF-8 ({error}); fetch it again") from error
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        columns = line.removesuffix("\r").split("\t")
        if len(columns) not in (2, 3):
            raise UserError(
                f"{path}: {names[0]}, line {number}: {len(columns)} column{'s' * (len(columns) > 1)} where 2 or 3 are "
                "needed (English, German, attribution); name another archive"
            )
        yield Pair(columns[0], columns[1])


def _write(path: Path, lines: Iterator[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
