"""The searches on a real Transformer: with its cache as without, in a batch as alone."""

import pytest
import torch
from torch import Tensor

from transformer.decoding.batch import Flow
from transformer.decoding.beam import Beam
from transformer.decoding.demand import Demand
from transformer.decoding.diverse import DiverseBeam
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.greedy import Greedy
from transformer.decoding.penalty import Wu
from transformer.decoding.phrase import contains
from transformer.decoding.sample import Sample
from transformer.decoding.scorer import token_log_probs
from transformer.decoding.translator import padded
from transformer.model.layers import LayerShape
from transformer.model.position.relative import Relative
from transformer.model.position.rotary import Rotary
from transformer.model.position.sinusoidal import Sinusoidal
from transformer.model.transformer import Transformer, Vocabulary
from transformer.special import BOS, EOS, PAD

VOCAB_SIZE = 300


class WithoutCache:
    """The same model, decoding every prefix from its beginning at every step."""

    def __init__(self, model: Transformer) -> None:
        self.model = model

    def start(self, src: Tensor, src_key_padding_mask: Tensor, width: int, capacity: int) -> "Prefixes":
        memory = self.model.encode(src, src_key_padding_mask)
        return Prefixes(memory, src_key_padding_mask, width)

    def step(self, ids: Tensor, state: "Prefixes") -> Tensor:
        state.prefixes = torch.cat([state.prefixes, ids.unsqueeze(-1).expand(-1, state.width, -1)], dim=-1)
        with self.model.recording() as weights:
            decoded = self.model.decode(
                state.prefixes.flatten(0, 1),
                state.memory.repeat_interleave(state.width, dim=0),
                state.src_key_padding_mask.repeat_interleave(state.width, dim=0),
            )
        state.attention = weights.cross[-1][:, :, -1].mean(1).view(state.n_sentences, state.width, -1)
        return self.model.output(decoded[:, -1]).view(state.n_sentences, state.width, -1)[:, : ids.size(1)]


class Prefixes:
    def __init__(self, memory: Tensor, src_key_padding_mask: Tensor, width: int) -> None:
        self.memory, self.src_key_padding_mask, self.width = memory, src_key_padding_mask, width
        self.prefixes = torch.zeros((memory.size(0), width, 0), dtype=torch.long)
        self.attending, self.attention = False, torch.zeros(0)

    @property
    def n_sentences(self) -> int:
        return self.prefixes.size(0)

    @property
    def length(self) -> int:
        return self.prefixes.size(2)

    def reorder(self, parents: Tensor) -> None:
        self.prefixes = self.prefixes.gather(1, parents.unsqueeze(-1).expand_as(self.prefixes))

    def admit(self, rows: Tensor, fresh: "Prefixes") -> None:
        raise AssertionError("prefixes of one length begin together")

    def keep(self, sentences: Tensor) -> None:
        self.memory, self.src_key_padding_mask = self.memory[sentences], self.src_key_padding_mask[sentences]
        self.prefixes = self.prefixes[sentences]


@pytest.fixture(scope="module", params=[Sinusoidal, Relative, Rotary])
def model(request) -> Transformer:
    torch.manual_seed(3)
    shape = LayerShape(16, 2, 24, "pre", "relu", 0.1, 0.1, 0.1)
    model = Transformer(Vocabulary(VOCAB_SIZE, VOCAB_SIZE, "none"), shape, 2, 2, request.param, 32).eval()
    with torch.no_grad():
        # Sharper than at random, so that hypotheses differ, and of several lengths.
        model.output.weight.mul_(4.0)
        model.output.weight[EOS].add_(0.35 * model.output.weight.std())
    return model


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    lengths = [7, 3, 9, 1, 5]
    src = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in zip(src, lengths, strict=True):
        row[:length] = torch.randint(4, VOCAB_SIZE, (length,), generator=generator)
        row[length - 1] = EOS
    return src, src == PAD, torch.tensor([12, 6, 16, 4, 9])


SEARCHES = [
    Greedy(),
    Beam(1, 1, Wu(1.0), early_stopping=True),
    Beam(4, 4, Wu(1.0), early_stopping=True),
    Beam(3, 2, Wu(0.6), early_stopping=False),
    Beam(4, 2, Wu(1.0), early_stopping=False, coverage=2.0),
]


def assert_same(found, expected):
    assert [[h.ids for h in best] for best in found] == [[h.ids for h in best] for best in expected]
    for best, other in zip(found, expected, strict=True):
        assert [h.log_prob for h in best] == pytest.approx([h.log_prob for h in other], abs=1e-3)
        assert [h.score for h in best] == pytest.approx([h.score for h in other], abs=1e-3)


@pytest.mark.parametrize("search", SEARCHES)
@torch.inference_mode()
def test_the_cache_changes_nothing(model, batch, search):
    assert_same(search.search(model, *batch), search.search(WithoutCache(model), *batch))


@pytest.mark.parametrize("search", SEARCHES)
@torch.inference_mode()
def test_a_batch_gives_what_each_sentence_gives_alone(model, batch, search):
    src, padding, limits = batch
    together = search.search(model, src, padding, limits)
    alone = []
    for i in range(src.size(0)):
        length = int((~padding[i]).sum())
        alone += search.search(model, src[i : i + 1, :length], padding[i : i + 1, :length], limits[i : i + 1])
    assert_same(together, alone)


@torch.inference_mode()
def test_translations_have_several_lengths(model, batch):
    found = Beam(4, 4, Wu(1.0), early_stopping=True).search(model, *batch)
    assert len({len(h.ids) for best in found for h in best}) > 4


@pytest.mark.parametrize("coverage", [0.0, 2.0])
@torch.inference_mode()
def test_an_ensemble_of_a_model_with_itself_changes_nothing(model, batch, coverage):
    search = Beam(4, 2, Wu(1.0), early_stopping=True, coverage=coverage)
    ensemble = Ensemble([model, model])
    assert ensemble.max_len == model.max_len
    assert_same(search.search(ensemble, *batch), search.search(model, *batch))


@torch.inference_mode()
def test_the_scorer_agrees_with_the_search(model, batch):
    src, padding, limits = batch
    found = Beam(3, 1, Wu(1.0), early_stopping=True).search(model, src, padding, limits)
    targets = padded([[*best.ids, EOS] for [best] in found])
    log_probs = token_log_probs(model, src, padding, targets).sum(1)
    assert log_probs.tolist() == pytest.approx([best.log_prob for [best] in found], abs=1e-3)
    # The whole target at once, as in training, gives the same.
    tgt_in = torch.cat([torch.full((len(found), 1), BOS), targets[:, :-1]], dim=1)
    at_once = model(src, tgt_in, padding).log_softmax(-1).gather(2, targets.unsqueeze(2)).squeeze(2)
    assert log_probs.tolist() == pytest.approx(at_once.masked_fill(targets == PAD, 0).sum(1).tolist(), abs=1e-3)


@pytest.mark.parametrize("search", [Sample(1.0, 0, 1.0, 3, 2), DiverseBeam(4, 2, 0.5, 4, Wu(1.0), True)])
@torch.inference_mode()
def test_sampling_and_diverse_search_are_the_same_with_and_without_the_cache(model, batch, search):
    assert_same(search.search(model, *batch), search.search(WithoutCache(model), *batch))


@torch.inference_mode()
def test_demands_are_met(model, batch):
    demands = [Demand((7, 8), ((9, 10), (11,)), ((12,),)), *[Demand()] * 3, Demand(required=((20, 21, 22),))]
    search = Beam(5, 2, Wu(1.0), early_stopping=True)
    found = search.search(model, *batch, demands)
    for best in found[0]:
        assert best.ids[:2] == [7, 8]
        assert contains(best.ids, (9, 10))
        assert contains(best.ids, (11,))
        assert 12 not in best.ids
    assert all(contains(best.ids, (20, 21, 22)) for best in found[4])
    assert_same(found[1:4], search.search(model, *batch)[1:4])


@pytest.mark.parametrize("search", [Greedy(), Beam(4, 2, Wu(1.0), early_stopping=True), Beam(3, 1, Wu(0.6), False)])
@pytest.mark.parametrize("room", [lambda src_len: 3, lambda src_len: 20 // src_len, lambda src_len: 1])
@torch.inference_mode()
def test_sentences_that_take_the_places_of_others_are_translated_as_alone(model, search, room):
    generator = torch.Generator().manual_seed(9)
    lengths = [9, 9, 7, 8, 5, 5, 3, 3, 3, 3, 2, 2, 2, 2, 2, 9, 2]
    src = padded([[*torch.randint(4, VOCAB_SIZE, (n - 1,), generator=generator).tolist(), EOS] for n in lengths])
    limits = torch.tensor([2 * n for n in lengths])
    for both in (model, Ensemble([model, model])):
        found = search.search(both, src, src == PAD, limits, None, Flow(room))
        for i, length in enumerate(lengths):
            alone = src[i : i + 1, :length]
            assert_same([found[i]], search.search(both, alone, alone == PAD, limits[i : i + 1]))
