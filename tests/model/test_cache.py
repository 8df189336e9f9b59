import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.model.cache import DecoderState, LayerCache


def make_state(n_sentences, width, capacity, src_len=3):
    memory = torch.randn(n_sentences, 2, src_len, 4)
    visible = torch.ones(n_sentences, 1, 1, src_len, dtype=torch.bool)
    return DecoderState([LayerCache(memory, memory + 1, width, capacity)], visible, width, capacity)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(2, 4), st.integers(1, 5), st.integers(0, 2**32))
def test_each_hypothesis_sees_the_keys_of_its_own_history(n_sentences, width, n_steps, seed):
    generator = torch.Generator().manual_seed(seed)
    state = make_state(n_sentences, width, capacity=n_steps)
    sentences = list(range(n_sentences))
    histories = [[[] for _ in range(width)] for _ in sentences]  # the keys' names, sentence by sentence
    for step in range(n_steps):
        # A key is named by the sentence, the step and the slot that made it.
        k = torch.tensor([[[[s, step, slot, 0.0]] * 2 for slot in range(width)] for s in sentences]).transpose(1, 2)
        keys, values = state.layers[0].append(k, -k, 0, state.length)
        assert keys.shape == (len(sentences), 2, (step + 1) * width, 4)
        assert torch.equal(values, -keys)
        visible = state.visible()
        assert visible.shape == (len(sentences), 1, width, (step + 1) * width)
        for row, s in enumerate(sentences):
            for slot in range(width):
                histories[row][slot] = [*histories[row][slot], [s, step, slot, 0.0]]
                assert keys[row, 1][visible[row, 0, slot]].tolist() == histories[row][slot]
        state.length += 1
        parents = torch.randint(width, (len(sentences), width), generator=generator)
        state.reorder(parents)
        histories = [[old[p] for p in row] for old, row in zip(histories, parents.tolist(), strict=True)]
        kept = torch.randperm(len(sentences), generator=generator)[: max(1, len(sentences) - step % 2)]
        state.keep(kept)
        histories, sentences = [histories[i] for i in kept.tolist()], [sentences[i] for i in kept.tolist()]
        assert state.n_sentences == len(sentences)


def test_a_single_hypothesis_sees_everything():
    state = make_state(3, 1, capacity=5)
    state.length = 2
    assert state.visible() is None
    state.reorder(torch.zeros(3, 1, dtype=torch.long))
    assert state.visible() is None


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
