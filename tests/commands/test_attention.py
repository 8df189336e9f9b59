"""What translate shows of the attention, seen through an aligner that is scripted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from transformer.commands.attention import align
from transformer.decoding.alignment import Attention
from transformer.decoding.translator import NOTHING, Translation


class Scripted:
    """Translation number n, longest first: each word looks at source word n."""

    def attend_each(self, lines: list[str], translations: list[Any]) -> Any:
        for i in sorted(range(len(lines)), key=lambda i: -len(translations[i][1])):
            n, n_src = len(translations[i][1]), len(lines[i].split())
            weights = np.zeros((1, 1, n, n_src + 1))
            weights[..., min(i, n_src - 1) if n else 0] = 1.0
            yield i, Attention([*lines[i].split(), "</s>"], ["x"] * n, weights, list(range(n_src)), list(range(n)))


def settings(**changed: Any) -> Any:
    values = {"format": "text", "layer": None, "heatmaps": None, "heatmap": "mean", "n_heatmaps": 20}
    return SimpleNamespace(**{**values, **changed})


def words(n: int) -> Translation:
    return Translation(" ".join("x" * n), ["x"] * n, -1.0, -1.0, tuple(range(4, 4 + n)))


def test_each_hypothesis_has_its_own_alignment_whatever_the_order_of_batches() -> None:
    sources, found = ["a b c d e", "", "a b c d e"], [[words(1), words(3)], [NOTHING], [words(2)]]
    aligner: Any = Scripted()
    expected = [[[(0, 0)], [(1, 0), (1, 1), (1, 2)]], [[]], [[(3, 0), (3, 1)]]]
    assert align(settings(format="jsonl"), aligner, 0, sources, found) == expected
    best = align(settings(), aligner, 0, sources, found)
    assert [len(alignments) for alignments in best] == [1, 1, 1]
    assert best[0] == [[(0, 0)]]


@pytest.mark.parametrize(
    ("n_before", "pictures", "n_told"), [(0, [1, 2], 0), (1, [2, 3], 0), (2, [3], 1), (3, [], 1), (4, [], 0)]
)
def test_pictures_are_of_the_first_lines_and_it_is_told_once_that_there_were_more(
    n_before: int, pictures: list[int], n_told: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    aligner: Any = Scripted()
    align(settings(heatmaps=str(tmp_path), n_heatmaps=3), aligner, n_before, ["a b", "c"], [[words(2)], [words(1)]])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"line_{number:06d}.png" for number in pictures]
    assert len(caplog.messages) == n_told
