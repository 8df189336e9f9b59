import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.model.cache import COLUMNS, ROOM, DecoderState, LayerCache


def make_state(n_sentences, width, capacity, src_len=3, in_columns=False):
    memory = torch.randn(n_sentences, 2, src_len, 4)
    visible = torch.ones(n_sentences, 1, 1, src_len, dtype=torch.bool)
    return DecoderState([LayerCache(memory, memory + 1, width)], visible, width, capacity, in_columns)


def make_step(state, k):
    """Keys k, values -k; returns the keys that are shown, and who sees them."""
    state.open_step()
    keys, values = state.layers[0].append(k, -k, state.n_keys, state.n_shown)
    assert torch.equal(values, -keys)
    visible = state.visible()
    state.length += 1
    return keys, visible


@settings(max_examples=60, deadline=None)
@given(
    n_sentences=st.integers(1, 4),
    width=st.integers(2, 4),
    n_steps=st.integers(1, 3 * ROOM),
    in_columns=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_each_hypothesis_sees_the_keys_of_its_own_history(n_sentences, width, n_steps, in_columns, seed):
    generator = torch.Generator().manual_seed(seed)
    state = make_state(n_sentences, width, n_steps, in_columns=in_columns)
    sentences = list(range(n_sentences))
    histories = [[[] for _ in range(width)] for _ in sentences]  # the keys' names, sentence by sentence
    for step in range(n_steps):
        # A key is named by the sentence, the step and the slot that made it.
        k = torch.tensor([[[[s, step, slot, 1.0]] * 2 for slot in range(width)] for s in sentences]).transpose(1, 2)
        keys, visible = make_step(state, k)
        assert keys.shape == (len(sentences), 2, visible.size(3), 4)
        assert visible.shape == (len(sentences), 1, width, visible.size(3))
        assert visible.size(3) % COLUMNS == 0
        assert not keys.isnan().any()
        if in_columns:
            columns = keys[:, :, : (step + 1) * width].unflatten(2, (-1, width))
            assert torch.equal(columns[0, 0, :, :, 1], torch.arange(step + 1.0).unsqueeze(1).expand(-1, width))
        for row, s in enumerate(sentences):
            for slot in range(width):
                histories[row][slot] = [*histories[row][slot], [s, step, slot, 1.0]]
                assert sorted(keys[row, 1][visible[row, 0, slot]].tolist()) == histories[row][slot]
        parents = torch.randint(width, (len(sentences), width), generator=generator)
        state.reorder(parents)
        histories = [[old[p] for p in row] for old, row in zip(histories, parents.tolist(), strict=True)]
        kept = torch.randperm(len(sentences), generator=generator)[: max(1, len(sentences) - step % 2)]
        state.keep(kept)
        histories, sentences = [histories[i] for i in kept.tolist()], [sentences[i] for i in kept.tolist()]
        assert state.n_sentences == len(sentences)


@pytest.mark.parametrize(("in_columns", "n_keys"), [(False, ROOM), (True, 3 * ROOM)])
def test_keys_that_nobody_sees_are_left_behind_where_columns_do_not_matter(in_columns, n_keys):
    state = make_state(2, 3, capacity=30, in_columns=in_columns)
    for _ in range(ROOM):
        make_step(state, torch.randn(2, 2, 3, 4))
        state.reorder(torch.zeros(2, 3, dtype=torch.long))  # all descend from the first
    assert state.n_keys == 3 * ROOM
    state.reorder(torch.tensor([[0, 1, 2], [0, 0, 0]]))
    state.open_step()
    assert state.n_keys == n_keys


def test_sentences_that_begin_later_see_no_key_before_them_and_leave_none_behind():
    state = make_state(2, 1, capacity=99)
    for step in range(5 * ROOM):
        k = torch.full((state.n_sentences, 2, 1, 4), float(step))
        keys, visible = make_step(state, k)
        if step == 5:
            state.admit(torch.tensor([0, 2]), make_state(2, 1, capacity=99))
        elif step == 3 * ROOM:
            state.admit(torch.tensor([1]), make_state(1, 1, capacity=99))
        if step > 3 * ROOM:
            seen = [keys[row, 0, :, 0][visible[row, 0, 0]].tolist() for row in range(3)]
            assert seen == [list(range(begun, step + 1)) for begun in (6, 3 * ROOM + 1, 6)]
    assert state.n_keys <= 5 * ROOM - 6


def test_a_single_hypothesis_sees_everything():
    state = make_state(3, 1, capacity=5)
    keys, visible = make_step(state, torch.randn(3, 2, 1, 4))
    assert (visible, keys.size(2)) == (None, 1)
    state.reorder(torch.zeros(3, 1, dtype=torch.long))
    keys, visible = make_step(state, torch.randn(3, 2, 1, 4))
    assert (visible, keys.size(2)) == (None, 2)


@pytest.mark.parametrize(("src_len", "filled"), [(3, 16), (16, 16), (17, 32)])
def test_the_memory_is_filled_up_with_what_nobody_sees(src_len, filled):
    state = make_state(2, 2, capacity=5, src_len=src_len)
    layer = state.layers[0]
    assert state.memory_visible.shape == (2, 1, 1, filled)
    assert layer.memory_key.shape == layer.memory_value.shape == (2, 2, filled, 4)
    assert state.memory_visible[..., :src_len].all()
    assert not state.memory_visible[..., src_len:].any()
    assert not layer.memory_value[:, :, src_len:].any()


def test_keep_takes_the_memory_along():
    state = make_state(3, 2, capacity=5)
    state.memory_visible[2, 0, 0, 1] = False
    state.memory_bias[2, 0, 0, 1] = -1e30
    before = state.layers[0].memory_key.clone()
    state.keep(torch.tensor([2, 0]))
    assert torch.equal(state.layers[0].memory_key, before[[2, 0]])
    assert torch.equal(state.layers[0].memory_value[:, :, :3], before[[2, 0], :, :3] + 1)
    assert state.memory_visible[:, 0, 0, :3].tolist() == [[True, False, True], [True, True, True]]
    assert torch.equal(state.memory_bias == 0, state.memory_visible)
    assert state.layers[0].key.size(0) == 2
