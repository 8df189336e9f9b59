"""A model that begins with the weights of another: embeddings taken by the spelling of their tokens, frozen parts."""

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from transformer.data.tokenizer.base import Tokenizer, TokenizerPair
from transformer.error import UserError

SRC_TABLE, TGT_TABLE, OUTPUT = "src_embedding.tokens.weight", "tgt_embedding.tokens.weight", "output.weight"


def same_spelling(before: Tokenizer, now: Tokenizer) -> Tensor:
    """The id that each token had in another vocabulary, -1 where it was not there; long (now.vocab_size,)."""
    known = {token: i for i, token in enumerate(before.tokens(range(before.vocab_size)))}
    return torch.tensor([known.get(token, -1) for token in now.tokens(range(now.vocab_size))])


def take_weights(
    model: nn.Module, weights: Mapping[str, Tensor], before: TokenizerPair, now: TokenizerPair
) -> dict[str, int]:
    """Copies weights into a model of the same shape; tokens that were not in the vocabulary keep the values they have.

    Args:
        model: changed in place.
        weights: the other model's state dict.
        before: the other model's tokenizers.
        now: the model's own.

    Returns:
        How many tokens of the source and of the target vocabulary were taken: {"src": n, "tgt": m}.

    Raises:
        ValueError: a tensor is in one of the models only, or has another shape; the model is as it was.
    """
    state = model.state_dict()
    if differing := sorted({*state} ^ {*weights}):
        raise ValueError(f"{differing[0]} is in one of the two models only")
    ids = {"src": same_spelling(before.src, now.src), "tgt": same_spelling(before.tgt, now.tgt)}
    sides = {SRC_TABLE: "src", TGT_TABLE: "tgt", OUTPUT: "tgt"}
    for name, tensor in state.items():
        first = 1 if name in sides else 0  # of a table the rows are tokens
        if tensor.shape[first:] != weights[name].shape[first:]:
            raise ValueError(f"{name} is {tuple(tensor.shape)} and was {tuple(weights[name].shape)}")
    with torch.no_grad():
        for name, tensor in state.items():
            if name in sides:
                there = ids[sides[name]] >= 0
                tensor[there] = weights[name][ids[sides[name]][there]].to(tensor)
            else:
                tensor.copy_(weights[name])
    return {side: int((found >= 0).sum()) for side, found in ids.items()}


def _places(name: str) -> list[str]:
    """A parameter's name and the names of all parts that it lies in."""
    steps = name.split(".")
    return [".".join(steps[:n]) for n in range(1, len(steps) + 1)]


def freeze(model: nn.Module, parts: Sequence[str]) -> None:
    """Takes parts of a model out of training: no gradient, so no optimizer state and no weight decay either.

    A table that several parts share is frozen in all of them.

    Args:
        model: changed in place.
        parts: names of parts or parameters, such as encoder_layers, decoder_layers.0, *_embedding.

    Raises:
        UserError: a name fits nothing, or nothing is left to train; the model is as it was.
    """
    named = list(model.named_parameters(remove_duplicate=False))
    known = list(dict.fromkeys(place for name, _ in named for place in _places(name)))
    for part in parts:
        if not any(fnmatchcase(place, part) for place in known):
            close = difflib.get_close_matches(part, known, n=3, cutoff=0.5)
            top = list(dict.fromkeys(place.partition(".")[0] for place in known))
            told = f"did you mean {' or '.join(close)}?" if close else f"the model has {', '.join(top)}"
            raise UserError(f"warm_start.frozen names {part}, which is no part of the model with weights; {told}")
    frozen = {
        id(parameter): parameter
        for name, parameter in named
        if any(fnmatchcase(place, part) for place in _places(name) for part in parts)
    }
    if len(frozen) == len({id(parameter) for _, parameter in named}):
        raise UserError(f"warm_start.frozen is {', '.join(parts)}, which leaves nothing to train; name fewer parts")
    for parameter in frozen.values():
        parameter.requires_grad_(False)
