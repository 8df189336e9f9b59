"""Embeddings for TensorBoard's projector: every piece a labelled point in space."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from transformer.data.tokenizer.base import TokenizerPair
from transformer.monitoring.replace import replace
from transformer.monitoring.terminal import printable
from transformer.training.checkpoint import MODEL, TOKENIZER, load_tensors

CONFIG_FILE = "projector_config.pbtxt"


def write_embeddings(folder: Path, checkpoint: Path) -> None:
    """Put a checkpoint's source and target embeddings into the projector of the run in `folder`, labelled by piece."""
    weights = load_tensors(checkpoint / MODEL)
    tokenizers = TokenizerPair.load(checkpoint / TOKENIZER)
    for name, side, tokenizer in (("source", "src", tokenizers.src), ("target", "tgt", tokenizers.tgt)):
        vectors = weights[f"{side}_embedding.tokens.weight"].float().numpy()
        write_projector(folder, name, vectors, tokenizer.tokens(list(range(tokenizer.vocab_size))))


def write_projector(folder: Path, name: str, vectors: npt.ArrayLike, pieces: Sequence[str]) -> None:
    """Put embeddings beside the run's event files, where TensorBoard's Projector page finds them.

    Writes `projector/<name>.bytes` (float32), `projector/<name>.tsv` (a label per line) and a `projector_config.pbtxt`
    that lists every embedding in `projector/`; the same name again replaces the earlier one. The page shows a folder
    only if it also holds event files.

    Args:
        folder: the run's folder.
        name: what the embedding is called, e.g. `source`.
        vectors: (vocab_size, d_model).
        pieces: vocab_size labels; white space and control characters in them are shown as a space.

    Raises:
        ValueError: `vectors` has no two axes, or not as many rows as there are pieces.
    """
    matrix = np.asarray(vectors, dtype="<f4")
    if matrix.ndim != 2 or len(matrix) != len(pieces):
        raise ValueError(f"vectors of shape {matrix.shape} do not fit {len(pieces)} pieces")
    data = folder / "projector"
    replace(data / f"{name}.bytes", matrix.tobytes())
    labels = "".join(f"{_label(piece)}\n" for piece in pieces)
    replace(data / f"{name}.tsv", labels.encode())
    replace(data / f"{name}.shape", f"{matrix.shape[0]} {matrix.shape[1]}\n".encode())
    entries = [_entry(path.with_suffix("")) for path in sorted(data.glob("*.shape"))]
    replace(folder / CONFIG_FILE, "".join(entries).encode())


def _label(piece: str) -> str:
    """A line that is never empty: the page takes an empty line for no line."""
    shown = " ".join(printable(piece).split("\n"))
    return shown if shown.strip() else "(space)"


def _entry(path: Path) -> str:
    rows, columns = path.with_suffix(".shape").read_text().split()
    quoted = [json.dumps(text, ensure_ascii=False) for text in (path.name, f"projector/{path.name}")]
    return (
        f"embeddings {{\n  tensor_name: {quoted[0]}\n"
        f"  tensor_shape: {rows}\n  tensor_shape: {columns}\n"
        f'  tensor_path: {quoted[1][:-1]}.bytes"\n  metadata_path: {quoted[1][:-1]}.tsv"\n}}\n'
    )
