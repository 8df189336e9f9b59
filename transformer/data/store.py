"""Prepared corpora: token ids on disk, written once, memory-mapped, read by index."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np

from transformer.data.aside import written_aside
from transformer.data.corpus import Corpus, Pair
from transformer.data.tokenizer.base import TokenizerPair
from transformer.error import UserError
from transformer.special import EOS

_MANIFEST = "manifest.json"
_FORMAT = 1
_CHUNK = 10_000  # pairs in memory at a time while a store is written
_COUNTED_AT_ONCE = 10_000_000  # ids
EMPTY, TOO_LONG = "empty side", "over max_len"


class PairStore:
    """The usable pairs of a split as ids, in the order of the corpus.

    On disk: src.bin and tgt.bin (ids one after another, uint16 or int32), src_offsets.bin and tgt_offsets.bin (int64,
    one more than there are pairs), lines.bin (int64), manifest.json.

    Attributes:
        src_lengths: (pairs,) int32; source tokens without BOS and EOS.
        tgt_lengths: (pairs,) int32.
        lines: (pairs,) int64; the pair's number in the split, counted from 1.
        left_out: how many pairs were left out, by reason: "empty side" (blank, or nothing left after normalisation) and
            "over max_len" (more than max_len tokens on a side).
        n_read: pairs read, those left out included.
        max_len: the most tokens a side may have, without BOS and EOS.
        text: the fingerprint of the split it was made from, see `Corpus.fingerprint`; empty where nobody gave it.
    """

    def __init__(
        self,
        src: tuple[np.ndarray, np.ndarray],
        tgt: tuple[np.ndarray, np.ndarray],
        lines: np.ndarray,
        left_out: dict[str, int],
        n_read: int,
        max_len: int,
        text: str = "",
    ) -> None:
        """Takes (ids, offsets) of each side; see the attributes."""
        self._src_ids, self._src_offsets = src
        self._tgt_ids, self._tgt_offsets = tgt
        self.src_lengths = np.diff(self._src_offsets).astype(np.int32)
        self.tgt_lengths = np.diff(self._tgt_offsets).astype(np.int32)
        self.lines = lines
        self.left_out = left_out
        self.n_read = n_read
        self.max_len = max_len
        self.text = text

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Source and target ids of pair `i`, int32, without BOS and EOS."""
        if not 0 <= i < len(self.lines):
            raise IndexError(f"pair {i} of {len(self.lines)}")
        src = self._src_ids[self._src_offsets[i] : self._src_offsets[i + 1]]
        tgt = self._tgt_ids[self._tgt_offsets[i] : self._tgt_offsets[i + 1]]
        return src.astype(np.int32), tgt.astype(np.int32)

    def tgt_counts(self, vocab_size: int) -> np.ndarray:
        """How often each token is to be predicted: those of the targets, and an end of sentence for each pair.

        Args:
            vocab_size: of the target side.

        Returns:
            int64 (vocab_size,).
        """
        counts = np.zeros(vocab_size, np.int64)
        for begin in range(0, len(self._tgt_ids), _COUNTED_AT_ONCE):
            counts += np.bincount(self._tgt_ids[begin : begin + _COUNTED_AT_ONCE], minlength=vocab_size)
        counts[EOS] += len(self)
        return counts

    @staticmethod
    def open(folder: Path, text: str = "") -> "PairStore":
        """Maps a store into memory; text: see the attribute.

        Raises:
            UserError: it is damaged: a file is missing or has not the size that the manifest says.
        """
        try:
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != _FORMAT:
                raise ValueError(f"format {manifest['format']}")
            arrays = {}
            for name, (dtype, length) in manifest["arrays"].items():
                path = folder / f"{name}.bin"
                size = length * np.dtype(dtype).itemsize
                if path.stat().st_size != size:
                    raise ValueError(f"{path.name} has {path.stat().st_size} bytes where {size} were written")
                arrays[name] = np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(length,)))
            return PairStore(
                (arrays["src"], arrays["src_offsets"]),
                (arrays["tgt"], arrays["tgt_offsets"]),
                arrays["lines"],
                dict(manifest["left_out"]),
                int(manifest["n_read"]),
                int(manifest["max_len"]),
                text,
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"the prepared corpus {folder} is damaged ({error}); delete it to have it made again"
            ) from error


def prepare_store(corpus: Corpus, split: str, tokenizers: TokenizerPair, max_len: int, cache_dir: Path) -> PairStore:
    """The store of a split: written at first use, opened ever after; a damaged one is written again.

    It is keyed by the split's content, the tokenizers and max_len, appears only when complete, and takes memory for
    10,000 pairs, not for the corpus.

    Args:
        corpus: where the text comes from.
        split: a split's name, or "test".
        tokenizers: turn the text into ids.
        max_len: the most tokens a side may have, without BOS and EOS; longer pairs are left out and counted.
        cache_dir: folder of prepared corpora.

    Raises:
        UserError: the corpus is at fault, or no pair of it can be used.
    """
    text = corpus.fingerprint(split)
    key = f"{_FORMAT} {text} {tokenizers.fingerprint()} {max_len}"
    folder = Path(cache_dir) / f"store-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
    if folder.exists():
        try:
            return PairStore.open(folder, text)
        except UserError:  # what can be computed again is not the user's business
            shutil.rmtree(folder)
    with written_aside(folder) as scratch:
        _write(corpus.pairs(split), split, tokenizers, max_len, scratch)
    return PairStore.open(folder, text)


class _Side:
    """Writes the ids of one side as they come."""

    def __init__(self, folder: Path, name: str, vocab_size: int) -> None:
        self.name = name
        self.dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<i4")
        self.end = 0
        self._ids = (folder / f"{name}.bin").open("wb")
        self._offsets = (folder / f"{name}_offsets.bin").open("wb")
        self._offsets.write(np.zeros(1, "<i8").tobytes())

    def add(self, rows: list[list[int]]) -> None:
        flat = np.fromiter(chain.from_iterable(rows), dtype=self.dtype)
        ends = self.end + np.cumsum([len(row) for row in rows], dtype="<i8")
        self._ids.write(flat.tobytes())
        self._offsets.write(ends.tobytes())
        self.end = int(ends[-1]) if len(rows) else self.end

    def close(self) -> None:
        self._ids.close()
        self._offsets.close()

    def arrays(self, n: int) -> dict[str, tuple[str, int]]:
        return {self.name: (self.dtype.str, self.end), f"{self.name}_offsets": ("<i8", n + 1)}


def _write(pairs: Iterator[Pair], split: str, tokenizers: TokenizerPair, max_len: int, folder: Path) -> None:
    src_side = _Side(folder, "src", tokenizers.src.vocab_size)
    tgt_side = _Side(folder, "tgt", tokenizers.tgt.vocab_size)
    left_out = {EMPTY: 0, TOO_LONG: 0}
    n_read = n_kept = 0
    try:
        with (folder / "lines.bin").open("wb") as lines:
            while chunk := list(islice(pairs, _CHUNK)):
                kept, src, tgt = [], [], []
                encoded = zip(
                    tokenizers.src.encode_lines([pair.src for pair in chunk]),
                    tokenizers.tgt.encode_lines([pair.tgt for pair in chunk]),
                    strict=True,
                )
                for pair, (src_ids, tgt_ids) in zip(chunk, encoded, strict=True):
                    n_read += 1
                    if not (pair.src.strip() and pair.tgt.strip() and src_ids and tgt_ids):
                        left_out[EMPTY] += 1
                    elif len(src_ids) > max_len or len(tgt_ids) > max_len:
                        left_out[TOO_LONG] += 1
                    else:
                        kept.append(n_read)
                        src.append(src_ids)
                        tgt.append(tgt_ids)
                src_side.add(src)
                tgt_side.add(tgt)
                lines.write(np.asarray(kept, dtype="<i8").tobytes())
                n_kept += len(kept)
    finally:
        src_side.close()
        tgt_side.close()
    if not n_kept:
        raise UserError(
            f"no pair of the split {split!r} can be used: of {n_read} pairs {left_out[EMPTY]} have an empty side and "
            f"{left_out[TOO_LONG]} are over max_len={max_len} tokens; check the files or raise max_len"
        )
    manifest = {
        "format": _FORMAT,
        "split": split,
        "arrays": {**src_side.arrays(n_kept), **tgt_side.arrays(n_kept), "lines": ("<i8", n_kept)},
        "left_out": left_out,
        "n_read": n_read,
        "max_len": max_len,
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
