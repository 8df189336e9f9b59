import numpy as np
import pytest
from google.protobuf import text_format
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from transformer.monitoring.projector import write_projector


def read(folder):
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    return {entry.tensor_name: entry for entry in config.embeddings}


def test_vectors_and_labels_come_back(tmp_path):
    vectors = np.arange(12, dtype=np.float64).reshape(4, 3)
    write_projector(tmp_path, "source", vectors, ["<pad>", "▁Hund", "e\tn", "ü"])
    entry = read(tmp_path)["source"]
    assert list(entry.tensor_shape) == [4, 3]
    read_back = np.fromfile(tmp_path / entry.tensor_path, dtype="float32").reshape(4, 3)
    np.testing.assert_array_equal(read_back, vectors)
    assert (tmp_path / entry.metadata_path).read_text().splitlines() == ["<pad>", "▁Hund", "e n", "ü"]


def test_every_piece_is_one_line_that_is_not_empty(tmp_path):
    pieces = ["", " ", "\n", "a\u2028b", "\r", "\x85", "x"]
    write_projector(tmp_path, "odd", np.zeros((len(pieces), 2)), pieces)
    lines = (tmp_path / "projector" / "odd.tsv").read_text().splitlines()
    assert lines == ["(space)", "(space)", "(space)", "a b", "(space)", "(space)", "x"]


def test_a_second_embedding_joins_and_the_same_name_replaces(tmp_path):
    write_projector(tmp_path, "source", np.zeros((4, 3)), list("abcd"))
    write_projector(tmp_path, "target", np.zeros((5, 3)), list("abcde"))
    write_projector(tmp_path, "source", np.ones((2, 3)), list("ab"))
    entries = read(tmp_path)
    assert {name: list(entry.tensor_shape) for name, entry in entries.items()} == {"source": [2, 3], "target": [5, 3]}


@pytest.mark.parametrize("shape", [(3, 2), (4,), (4, 2, 1)])
def test_a_shape_that_does_not_fit_is_refused(tmp_path, shape):
    with pytest.raises(ValueError, match="do not fit 4 pieces"):
        write_projector(tmp_path, "source", np.zeros(shape), list("abcd"))
