import math
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transformer.model.attention import Mix
from transformer.model.dropout import Dropout
from transformer.model.layers import LayerShape
from transformer.model.masks import causal
from transformer.model.normalizer import Hard
from transformer.model.position.learned import Learned
from transformer.model.position.relative import Relative
from transformer.model.position.sinusoidal import Sinusoidal
from transformer.model.score import Additive, Bilinear, ScaledDot
from transformer.model.transformer import Transformer, Vocabulary
from transformer.special import BOS, PAD

NORMS = ["pre", "post"]
PRESETS = Path(__file__).resolve().parents[2] / "configs" / "model"


def targets(batch, length, vocab_size=29):
    ids = torch.randint(4, vocab_size, (batch, length))
    ids[:, 0] = BOS
    return ids


@pytest.mark.parametrize("norm", NORMS)
def test_shapes(make_model, make_src, position, norm):
    model = make_model(position, norm)
    src, padding = make_src([5, 7])
    memory = model.encode(src, padding)
    assert memory.shape == (2, 7, 12)
    assert model.decode(targets(2, 4), memory, padding).shape == (2, 4, 12)
    assert model(src, targets(2, 4), padding).shape == (2, 4, 29)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("fast", [True, False])
@torch.inference_mode()
def test_a_later_target_changes_no_earlier_output(make_model, make_src, position, norm, fast):
    model = make_model(position, norm)
    model.use_fast_paths(fused_attention=fast, bulk_dropout=fast)
    src, padding = make_src([5, 7])
    tgt_in = targets(2, 6)
    before = model(src, tgt_in, padding)
    for place in range(1, 6):
        changed = tgt_in.clone()
        changed[:, place] = 4 + (changed[:, place] - 3) % 20
        after = model(src, changed, padding)
        assert torch.equal(after[:, :place], before[:, :place])
        assert (after[:, place] - before[:, place]).abs().amax(dim=-1).min() > 1e-3


@pytest.mark.parametrize("norm", NORMS)
@torch.inference_mode()
def test_padding_of_source_and_target_changes_nothing(make_model, make_src, position, norm):
    model = make_model(position, norm)
    src, padding = make_src([5, 5])
    tgt_in = targets(2, 4)
    alone = model(src, tgt_in, padding)
    wide = torch.cat([src, torch.full((2, 3), PAD)], dim=1)
    padded = model(wide, torch.cat([tgt_in, torch.full((2, 2), PAD)], dim=1), wide == PAD)
    torch.testing.assert_close(padded[:, :4], alone, atol=1e-5, rtol=1e-5)
    # ... whatever ids stand there
    noise = wide.clone()
    noise[:, 5:] = 7
    torch.testing.assert_close(model(noise, tgt_in, wide == PAD), alone, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_batch_is_its_sentences_one_by_one(make_model, make_src, position):
    model = make_model(position)
    src, padding = make_src([3, 7, 5])
    tgt_in = targets(3, 4)
    together = model(src, tgt_in, padding)
    for i, length in enumerate((3, 7, 5)):
        alone = model(src[i : i + 1, :length], tgt_in[i : i + 1], padding[i : i + 1, :length])
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_target_padding_before_the_tokens_is_hidden_when_told(make_model, make_src):
    """With positions that only know distances, a target moved right by padding gives what it gave."""
    model = make_model(Relative)
    src, padding = make_src([5, 7])
    tgt_in = targets(2, 4)
    memory = model.encode(src, padding)
    moved = torch.cat([torch.full((2, 3), PAD), tgt_in], dim=1)
    expected, found = model.decode(tgt_in, memory, padding), model.decode(moved, memory, padding, moved == PAD)
    torch.testing.assert_close(found[:, 3:], expected, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(found).all()
    assert not torch.allclose(model.decode(moved, memory, padding)[:, 3:], expected, atol=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_a_source_of_padding_alone_stays_finite(make_model, norm):
    model = make_model(norm=norm)
    src = torch.full((2, 3), PAD)
    logits = model(src, targets(2, 4), src == PAD)
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("norm", NORMS)
def test_fast_paths_compute_the_same(make_model, make_src, position, norm):
    model = make_model(position, norm)
    src, padding = make_src([5, 7])
    tgt_in = targets(2, 4)
    results = []
    for fast in (True, False):
        model.use_fast_paths(fused_attention=fast, bulk_dropout=fast)
        model.zero_grad()
        logits = model(src, tgt_in, padding)
        logits.log_softmax(dim=-1)[..., 5].sum().backward()
        results.append([logits, *(p.grad for p in model.parameters())])
    for fused, explicit in zip(*results, strict=True):
        torch.testing.assert_close(fused, explicit, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("copied", [False, True])
def test_matrices_by_column_compute_the_same(make_model, make_src, position, copied, monkeypatch):
    monkeypatch.setattr("transformer.model.transformer.by_onednn", lambda: copied)
    model = make_model(position).eval()
    src, padding = make_src([5, 7])
    tgt_in, names = targets(2, 4), {k: v.clone() for k, v in model.state_dict().items()}
    before = model(src, tgt_in, padding)
    model.lay_out_by_column()
    torch.testing.assert_close(model(src, tgt_in, padding), before)
    with torch.no_grad():
        state = model.start(src, padding, width=1, capacity=4)
        stepped = torch.stack([model.step(tgt_in[:, i : i + 1], state)[:, 0] for i in range(4)], dim=1)
    torch.testing.assert_close(stepped, before, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(value, names[name]) for name, value in model.state_dict().items())
    assert model.decoder_layers[0].feed_forward.inner.weight.stride() == (1, model.shape.d_ff)
    assert model.output.weight.is_contiguous()


def test_use_fast_paths_reaches_every_part(make_model):
    model = make_model()
    for fused, bulk in ((False, True), (True, False)):
        model.use_fast_paths(fused, bulk)
        assert {m.fused for m in model.modules() if isinstance(m, Mix)} == {fused}
        assert {m.bulk for m in model.modules() if isinstance(m, Dropout)} == {bulk}


def walk(model, src, padding, width, n_steps, seed):
    """Steps with random tokens, orders and drops; yields (logits by the cache, logits without it)."""
    generator = torch.Generator().manual_seed(seed)

    def random(high, *shape):
        return torch.randint(high, shape, generator=generator)

    memory, memory_padding = model.encode(src, padding), padding
    state = model.start(src, padding, width, n_steps)
    histories = torch.zeros(src.size(0), width, 0, dtype=torch.long)
    for step in range(n_steps):
        n_sentences = memory.size(0)
        ids = torch.full((n_sentences, width), BOS) if step == 0 else 4 + random(25, n_sentences, width)
        histories = torch.cat([histories, ids.unsqueeze(-1)], dim=-1)
        cached = model.step(ids, state)
        assert (state.n_sentences, state.width, state.length) == (n_sentences, width, step + 1)
        repeated = [t.repeat_interleave(width, dim=0) for t in (memory, memory_padding)]
        full = model.output(model.decode(histories.flatten(0, 1), *repeated)[:, -1])
        yield cached, full.view(n_sentences, width, -1)
        parents = random(width, n_sentences, width)
        state.reorder(parents)
        histories = histories.gather(1, parents.unsqueeze(-1).expand_as(histories))
        if n_sentences > 1 and int(random(3, 1)) == 0:
            kept = torch.randperm(n_sentences, generator=generator)[:-1]
            state.keep(kept)
            histories, memory, memory_padding = histories[kept], memory[kept], memory_padding[kept]


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=st.integers(1, 4), n_steps=st.integers(1, 20), seed=st.integers(0, 2**32), fused=st.booleans())
@torch.inference_mode()
def test_cached_steps_are_the_uncached_pass(make_model, make_src, position, norm, width, n_steps, seed, fused):
    torch.manual_seed(seed)
    model = make_model(position, norm)
    model.use_fast_paths(fused, bulk_dropout=True)
    for cached, full in walk(model, *make_src([4, 7, 2, 5]), width, n_steps, seed):
        assert cached.shape[1:] == (width, 29)
        torch.testing.assert_close(cached, full, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(("score", "normalizer"), [(Additive, Hard), (Bilinear, Hard)])
@torch.inference_mode()
def test_cached_steps_are_the_uncached_pass_for_other_attention(make_model, make_src, score, normalizer):
    model = make_model(Learned, score=score, normalizer=normalizer)
    for cached, full in walk(model, *make_src([4, 7, 2]), 3, 5, seed=1):
        torch.testing.assert_close(cached, full, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("score", [ScaledDot, Additive, Bilinear])
@torch.inference_mode()
def test_steps_in_bfloat16_give_logits_that_are_not_rounded(make_model, make_src, position, score):
    """Nor are they those of float32: what is before the output projection is rounded."""
    model = make_model(position, "pre", score=score)
    src, padding = make_src([4, 7, 2])
    ids = torch.full((3, 2), BOS)
    exact = model.step(ids, model.start(src, padding, width=2, capacity=3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = model.start(src, padding, width=2, capacity=3)
        logits = model.step(ids, state)
        model.step(logits.argmax(-1), state)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
    assert not torch.equal(logits, exact)
    torch.testing.assert_close(logits, exact, atol=0.1, rtol=0.1)


@torch.inference_mode()
def test_recording_gives_the_weights_of_every_layer(make_model, make_src):
    model = make_model(position=Relative)
    src, padding = make_src([5, 7])
    tgt_in = targets(2, 4)
    fused = model(src, tgt_in, padding)
    with model.recording() as weights:
        explicit = model(src, tgt_in, padding)
    assert [w.shape for w in weights.encoder] == [(2, 3, 7, 7)] * 2
    assert [w.shape for w in weights.decoder] == [(2, 3, 4, 4)] * 3
    assert [w.shape for w in weights.cross] == [(2, 3, 4, 7)] * 3
    for w in (*weights.encoder, *weights.decoder, *weights.cross):
        torch.testing.assert_close(w.sum(dim=-1), torch.ones(w.shape[:-1]))
    assert not any(w[0, :, :, 5:].any() for w in (*weights.encoder, *weights.cross))
    assert not any((w * ~causal(4)).any() for w in weights.decoder)
    torch.testing.assert_close(explicit, fused, atol=1e-5, rtol=1e-5)


def test_recording_ends_with_its_context(make_model, make_src, monkeypatch):
    model = make_model()
    src, padding = make_src([5, 7])
    with pytest.raises(KeyError), model.recording() as weights:
        raise KeyError
    fused_calls = []
    kernel = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: (fused_calls.append(1), kernel(*args, **kwargs))[1],
    )
    model(src, targets(2, 4), padding)
    assert len(fused_calls) == 2 + 3 + 3
    assert (weights.encoder, weights.decoder, weights.cross) == ([], [], [])


def test_three_way_tying_shares_one_table(make_model):
    model = make_model(tying="three", src_size=29)
    assert model.output.weight is model.tgt_embedding.tokens.weight
    assert model.output.weight is model.src_embedding.tokens.weight


def test_two_way_tying_shares_the_targets(make_model):
    model = make_model(tying="two")
    assert model.output.weight is model.tgt_embedding.tokens.weight
    assert model.src_embedding.tokens.weight.shape == (23, 12)
    assert model.output.weight.shape == (29, 12)


def test_no_tying_shares_nothing(make_model):
    model = make_model(tying="none", src_size=29)
    tables = (model.output, model.tgt_embedding.tokens, model.src_embedding.tokens)
    assert len({table.weight.data_ptr() for table in tables}) == 3


@pytest.mark.parametrize("tying", ["none", "two", "three"])
def test_the_state_can_be_loaded_into_another_model(make_model, make_src, tying, position):
    model, other = (make_model(position, tying=tying, src_size=29) for _ in range(2))
    src, padding = make_src([5, 7])
    tgt_in = targets(2, 4)
    assert not torch.equal(model(src, tgt_in, padding), other(src, tgt_in, padding))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(src, tgt_in, padding), other(src, tgt_in, padding))


def test_every_parameter_is_trained(make_model, make_src, position):
    model = make_model(position, "pre")
    src, padding = make_src([5, 7])
    model(src, targets(2, 4), padding).log_softmax(dim=-1)[..., 5].sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()} == set()


def test_wrong_vocabularies_are_refused():
    with pytest.raises(ValueError, match="one of none, two, three, not four"):
        Vocabulary(10, 10, "four")
    with pytest.raises(ValueError, match=r"needs one vocabulary, but the sizes are 10 \(source\) and 11 \(target\)"):
        Vocabulary(10, 11, "three")


def preset(name, vocab_size, tying=None):
    values = yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))
    shape = LayerShape(*(values[key] for key in ("d_model", "n_heads", "d_ff", "norm", "activation")), 0.1, 0.0, 0.0)
    layers = values["n_encoder_layers"], values["n_decoder_layers"]
    with torch.device("meta"):  # numbers of parameters need no memory
        vocabulary = Vocabulary(vocab_size, vocab_size, tying or values["tying"])
        return Transformer(vocabulary, shape, *layers, Sinusoidal, values["max_len"]), values


def test_tiny_with_a_joint_vocabulary_of_10000():
    model, _ = preset("tiny", 10_000, "three")
    assert model.n_parameters == 2_605_056


@pytest.mark.parametrize("name", [path.stem for path in PRESETS.glob("*.yaml")])
@pytest.mark.parametrize(("tying", "n_tables"), [("none", 3), ("two", 2), ("three", 1)])
def test_presets_have_the_parameters_of_the_formula(name, tying, n_tables):
    model, values = preset(name, 10_000, tying)
    d, ff, norm = values["d_model"], values["d_ff"], 2 * values["d_model"]
    attention, feed_forward = 4 * (d * d + d), d * ff + ff + ff * d + d
    encoder = values["n_encoder_layers"] * (attention + feed_forward + 2 * norm)
    decoder = values["n_decoder_layers"] * (2 * attention + feed_forward + 3 * norm)
    last_norms = 2 * norm if values["norm"] == "pre" else 0
    assert model.n_parameters == n_tables * 10_000 * d + encoder + decoder + last_norms


def test_frozen_parameters_are_not_counted(make_model):
    model = make_model()
    before = model.n_parameters
    model.src_embedding.tokens.weight.requires_grad_(False)
    assert model.n_parameters == before - 23 * 12


@pytest.mark.parametrize("tying", ["none", "three"])
def test_initialisation(tying):
    shape = LayerShape(64, 4, 256, "post", "relu", 0.1, 0.0, 0.0)
    model = Transformer(Vocabulary(2000, 2000, tying), shape, 1, 1, Sinusoidal, 16)

    def uniform(weight, fan_in, fan_out):
        bound = math.sqrt(6 / (fan_in + fan_out))
        assert 0.99 * bound < float(weight.abs().max()) <= bound
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)

    with torch.no_grad():
        layer = model.decoder_layers[0]
        for part in (*layer.self_attention.qkv.weight.chunk(3), *layer.cross_attention.key_value.weight.chunk(2)):
            uniform(part, 64, 64)
        for linear in (layer.self_attention.out, layer.cross_attention.query, layer.cross_attention.out):
            uniform(linear.weight, 64, 64)
        uniform(layer.feed_forward.inner.weight, 64, 256)
        uniform(layer.feed_forward.out.weight, 256, 64)
        biases = [p for name, p in model.named_parameters() if name.endswith("bias") and "norm" not in name]
        assert len(biases) == 3 * 2 + 2 * 2 + 1 * 1  # self-attention, feed-forward, cross-attention's three
        assert not any(bias.any() for bias in biases)
        for weight in (model.output.weight, model.tgt_embedding.tokens.weight, model.src_embedding.tokens.weight):
            assert float(weight.std()) == pytest.approx(1 / 8, rel=0.02)
        assert not model.src_embedding.tokens.weight[PAD].any()


@torch.inference_mode()
def test_the_first_predictions_are_near_uniform():
    """Post-norm, tied: a loss far above log(vocab_size) at the start would tell of a wrong scale."""
    shape = LayerShape(64, 4, 128, "post", "relu", 0.0, 0.0, 0.0)
    model = Transformer(Vocabulary(500, 500, "three"), shape, 2, 2, Sinusoidal, 32).eval()
    src = torch.randint(4, 500, (8, 9))
    tgt_in, tgt_out = targets(8, 9, 500), torch.randint(4, 500, (8, 9))
    loss = torch.nn.functional.cross_entropy(model(src, tgt_in, src == PAD).flatten(0, 1), tgt_out.flatten())
    assert float(loss) < math.log(500) + 1.0
