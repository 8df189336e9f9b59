import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer.data.batch import Batch, collate
from transformer.special import BOS, EOS, PAD

ids = st.lists(st.integers(4, 99), min_size=0, max_size=6).map(lambda row: np.asarray(row, dtype=np.int32))


def test_an_example_in_full() -> None:
    pairs = [(np.array([5, 6, 7]), np.array([8])), (np.array([9]), np.array([10, 11]))]
    batch = collate(pairs, np.array([42, 7]))
    assert batch.src.tolist() == [[5, 6, 7, EOS], [9, EOS, PAD, PAD]]
    assert batch.tgt_in.tolist() == [[BOS, 8, PAD], [BOS, 10, 11]]
    assert batch.tgt_out.tolist() == [[8, EOS, PAD], [10, 11, EOS]]
    assert batch.src_key_padding_mask.tolist() == [[False] * 4, [False, False, True, True]]
    assert batch.n_tgt_tokens == 5
    assert batch.indices.tolist() == [42, 7]


@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=5))
def test_every_row_is_its_sentence(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    batch = collate(pairs, np.arange(len(pairs)))
    assert batch.src.dtype == batch.tgt_in.dtype == batch.tgt_out.dtype == torch.long
    assert batch.src_key_padding_mask.dtype == torch.bool
    assert batch.src.shape == batch.src_key_padding_mask.shape == (len(pairs), max(len(src) for src, _ in pairs) + 1)
    assert batch.tgt_in.shape == batch.tgt_out.shape == (len(pairs), max(len(tgt) for _, tgt in pairs) + 1)
    for row, (src, tgt) in enumerate(pairs):
        real = ~batch.src_key_padding_mask[row]
        assert batch.src[row][real].tolist() == [*src, EOS]
        assert not batch.src[row][~real].any()
        n = len(tgt)
        assert batch.tgt_in[row, : n + 1].tolist() == [BOS, *tgt]
        assert batch.tgt_out[row, : n + 1].tolist() == [*tgt, EOS]
        assert not batch.tgt_in[row, n + 1 :].any()
        assert not batch.tgt_out[row, n + 1 :].any()
    assert batch.n_tgt_tokens == int((batch.tgt_out != PAD).sum())


def test_no_pairs_at_all() -> None:
    batch = collate([], np.zeros(0, dtype=np.int64))
    assert batch.src.shape == batch.tgt_in.shape == batch.tgt_out.shape == batch.src_key_padding_mask.shape == (0, 1)
    assert batch.n_tgt_tokens == 0


def test_to_moves_every_tensor() -> None:
    batch = collate([(np.array([5]), np.array([6]))], np.array([3])).to("meta")
    assert isinstance(batch, Batch)
    for tensor in (batch.src, batch.tgt_in, batch.tgt_out, batch.src_key_padding_mask):
        assert tensor.device.type == "meta"
    assert (batch.n_tgt_tokens, batch.indices.tolist()) == (2, [3])


def test_lengths_are_rounded_up_with_padding() -> None:
    pairs = [(np.asarray([5, 6, 7]), np.asarray([8])), (np.asarray([5]), np.asarray([8, 9, 10, 11]))]
    plain, batch = (collate(pairs, np.asarray([0, 1]), n) for n in (1, 4))
    assert (plain.src.shape, plain.tgt_in.shape) == ((2, 4), (2, 5))
    assert (batch.src.shape, batch.tgt_in.shape) == ((2, 4), (2, 8))
    for name in ("src", "tgt_in", "tgt_out"):
        whole, part = getattr(batch, name), getattr(plain, name)
        assert torch.equal(whole[:, : part.size(1)], part)
        assert bool((whole[:, part.size(1) :] == PAD).all())
    assert batch.n_tgt_tokens == plain.n_tgt_tokens == 7
    assert collate([], np.zeros(0, dtype=np.int64), 4).src.shape == (0, 1)
