import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.data.corpus import Part
from transformer.data.place import Places


def written(folder: Path, sizes: list[int]) -> list[Part]:
    """Files a.src, b.src and so on, of so many lines, and their targets."""
    parts = []
    for name, n in zip("abcdef", sizes, strict=False):
        files = folder / f"{name}.src", folder / f"{name}.tgt"
        for file in files:
            file.write_text("".join(f"{name} {i}\n" for i in range(1, n + 1)))
        parts.append(Part(*files))
    return parts


@given(sizes=st.lists(st.integers(0, 4), min_size=2, max_size=6), data=st.data())
def test_each_pair_is_found_where_it_stands(
    sizes: list[int], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("place")
    parts = written(folder, sizes)
    lines = [pair.src for part in parts for pair in part.pairs()]
    places = Places(parts)
    for number, line in enumerate(lines, 1):
        name, i = line.split()
        assert places.told([number]) == f"line {i} of {folder / name}.src"
    chosen = sorted(data.draw(st.sets(st.sampled_from(range(1, len(lines) + 1))))) if lines else []
    if len(chosen) > 1:
        expected: dict[str, list[str]] = {}
        for line in (lines[number - 1] for number in chosen):
            expected.setdefault(line.split()[0], []).append(line.split()[1])
        told = ", ".join(f"{', '.join(own)} of {folder / name}.src" for name, own in expected.items())
        assert places.told(chosen) == f"lines {told}"


def test_one_file_need_not_be_named_nor_read(tmp_path: Path) -> None:
    places = Places([Part(tmp_path / "not there", None)])
    assert places.told([7]) == "line 7"
    assert places.told([7, 9]) == "lines 7, 9"


def test_files_that_have_gone_are_no_reason_to_end(tmp_path: Path) -> None:
    parts = written(tmp_path, [2, 2])
    parts[1].src.unlink()
    assert Places(parts).told([3]) == "pair 3 of the split"
    assert Places(parts).told([1, 3]) == "pairs 1, 3 of the split"


def test_files_are_read_once(tmp_path: Path) -> None:
    parts = written(tmp_path, [2, 2])
    places = Places(parts)
    places.told([1])
    for part in parts:
        part.src.unlink()
    assert places.told([np.int64(4)]) == f"line 2 of {parts[1].src}"


def test_tsv_and_compressed_files_count_as_any(tmp_path: Path) -> None:
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"x\ty\n\t\nx\ty\n"))
    (tmp_path / "b.tsv").write_text("x\ty\n")
    places = Places([Part(tmp_path / "a.tsv.gz", None), Part(tmp_path / "b.tsv", None)])
    assert places.told([3, 4]) == f"lines 3 of {tmp_path / 'a.tsv.gz'}, 1 of {tmp_path / 'b.tsv'}"
