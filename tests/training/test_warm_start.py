"""Weights taken over by the spelling of tokens, and parts that are not trained."""

from typing import Any

import pytest
import torch

from transformer.data.tokenizer.base import TokenizerPair
from transformer.data.tokenizer.word import WordTokenizer
from transformer.error import UserError
from transformer.model.position.learned import Learned
from transformer.model.position.relative import Relative
from transformer.model.position.sinusoidal import Sinusoidal
from transformer.model.transformer import Transformer, Vocabulary
from transformer.special import TOKENS
from transformer.training.optimizer import parameter_groups
from transformer.training.warm_start import freeze, same_spelling, take_weights


def words(*spelt: str) -> TokenizerPair:
    tokenizer = WordTokenizer([*TOKENS, *spelt], lowercase=False)
    return TokenizerPair(tokenizer, tokenizer)


def test_tokens_are_found_by_their_spelling_and_special_ones_are_alike() -> None:
    before, now = words("cat", "dog", "house"), words("house", "tree", "cat")
    assert same_spelling(before.src, now.src).tolist() == [0, 1, 2, 3, 6, -1, 4]


def test_known_tokens_keep_their_embeddings_and_others_what_they_were_given(toy: Any) -> None:
    before, now = words("cat", "dog", "house"), words("house", "tree", "cat", "Dog")
    old, new = toy.model(vocab_size=7), toy.model(vocab_size=8)
    fresh = new.src_embedding.tokens.weight.detach().clone()
    assert take_weights(new, old.state_dict(), before, now) == {"src": 6, "tgt": 6}
    table, taken = new.src_embedding.tokens.weight, old.src_embedding.tokens.weight
    assert torch.equal(table[[0, 1, 2, 3, 4, 6]], taken[[0, 1, 2, 3, 6, 4]])
    assert torch.equal(table[[5, 7]], fresh[[5, 7]])
    assert new.output.weight is table
    for name, tensor in new.encoder_layers.state_dict().items():
        assert torch.equal(tensor, old.encoder_layers.state_dict()[name])


def test_each_side_goes_by_its_own_vocabulary(toy: Any) -> None:
    cat, dog = words("cat").src, words("dog").src
    both = words("cat", "dog")
    shape = toy.model().shape
    old, new = (Transformer(Vocabulary(n, n, "two"), shape, 1, 1, Sinusoidal, 16) for n in (6, 5))
    take_weights(new, old.state_dict(), both, TokenizerPair(cat, dog))
    assert torch.equal(new.src_embedding.tokens.weight[4], old.src_embedding.tokens.weight[4])
    assert torch.equal(new.tgt_embedding.tokens.weight[4], old.tgt_embedding.tokens.weight[5])
    assert new.output.weight is new.tgt_embedding.tokens.weight


def test_another_shape_is_refused_and_nothing_is_copied(toy: Any) -> None:
    old, new = toy.model(position=Learned, vocab_size=5), toy.model(position=Learned, vocab_size=5)
    weights = {name: tensor[:-1] if name.endswith("table") else tensor for name, tensor in old.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with pytest.raises(ValueError, match=r"position\.table is \(16, 8\) and was \(15, 8\)"):
        take_weights(new, weights, words("a"), words("a"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in new.state_dict().items())
    with pytest.raises(ValueError, match="is in one of the two models only"):
        take_weights(new, toy.model(vocab_size=5).state_dict(), words("a"), words("a"))


def frozen(model: torch.nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["encoder_layers"], "encoder_layers."),
        (["decoder_layers.0"], "decoder_layers.0."),
        (["decoder_layers.[01].residuals.1"], "decoder_layers.0.residuals.1."),
        (["*coder_layers.*.norm"], "decoder_layers.0.residuals.0.norm. "),
        (["src_embedding"], "src_embedding.tokens.weight"),
        (["output"], "src_embedding.tokens.weight"),  # the same table
    ],
)
def test_parts_are_named_or_fitted(parts: list[str], expected: str, toy: Any) -> None:
    model = toy.model()
    freeze(model, parts)
    found = frozen(model)
    assert found
    if not expected.endswith(" "):
        assert found == {name for name, _ in model.named_parameters() if name.startswith(expected)}
    else:
        assert found == {name for name, _ in model.named_parameters() if ".norm." in name}
    kept = [id(p) for group in parameter_groups(model) for p in group["params"]]  # type: ignore[attr-defined]
    assert len(kept) == len(list(model.parameters())) - len(found)


def test_what_parts_share_is_frozen_with_one_of_them(toy: Any) -> None:
    model = toy.model(position=Relative)
    freeze(model, ["encoder_layers"])
    assert not any(p.requires_grad for p in model.encoder_layers.parameters())
    assert not model.src_embedding.position.table.requires_grad
    assert model.tgt_embedding.position.table.requires_grad


def test_without_matrices_or_vectors_there_is_one_group(toy: Any) -> None:
    model = toy.model()
    freeze(model, [name for name, p in model.named_parameters() if p.dim() > 1])
    (group,) = parameter_groups(model)
    assert group["weight_decay"] == 0.0


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (
            ["encoder"],
            "names encoder, which is no part of the model with weights; did you mean encoder_layers or ",
        ),
        (["decoder_layers.1"], "names decoder_layers.1, .* did you mean decoder_layers.0"),
        (["xyz"], "names xyz, .*; the model has src_embedding, "),
        (["encoder_norm"], "names encoder_norm, "),  # the identity, with post-norm
        (["*"], r"is output, \*, which leaves nothing to train; name fewer parts"),
    ],
)
def test_what_cannot_be_frozen_is_refused(parts: list[str], sentence: str, toy: Any) -> None:
    model = toy.model()
    with pytest.raises(UserError, match=rf"^warm_start\.frozen {sentence}"):
        freeze(model, ["output", *parts])
    assert not frozen(model)
