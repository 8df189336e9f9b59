from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from transformer.model.layers import LayerShape
from transformer.model.normalizer import Soft
from transformer.model.position.alibi import Alibi
from transformer.model.position.base import Position
from transformer.model.position.learned import Learned
from transformer.model.position.relative import Relative
from transformer.model.position.rotary import Rotary
from transformer.model.position.sinusoidal import Sinusoidal
from transformer.model.score import ScaledDot
from transformer.model.transformer import Transformer, Vocabulary
from transformer.special import EOS, PAD

POSITIONS: list[type[Position]] = [Sinusoidal, Learned, Rotary, Relative, Alibi]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep to one thread: the tensors here are so small that several only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(20)


@pytest.fixture(params=POSITIONS)
def position(request) -> type[Position]:
    """Each way to tell positions apart."""
    return request.param


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Transformer]:
    """Return a function that makes a small model in evaluation mode; every learned number is random."""

    # As many parameters as tests vary; each call names one or two of them.
    def make(
        position=Sinusoidal,
        norm="post",
        tying="none",
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        score=ScaledDot,
        normalizer=Soft,
        src_size=23,
        tgt_size=29,
        n_encoder_layers=2,
        n_decoder_layers=3,
    ) -> Transformer:
        shape = LayerShape(
            12, 3, 20, norm, "relu", dropout, attention_dropout, activation_dropout, score=score, normalizer=normalizer
        )
        model = Transformer(
            Vocabulary(src_size, tgt_size, tying), shape, n_encoder_layers, n_decoder_layers, position, 32
        )
        with torch.no_grad():
            for parameter in model.parameters():  # biases, norms and tables of distances start out all alike
                if parameter.dim() == 1 or not parameter.any():
                    parameter.add_(torch.randn_like(parameter), alpha=0.3)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_src() -> Callable[[list[int], int], tuple[Tensor, Tensor]]:
    """Return a function: lengths (EOS counted), vocabulary size -> ids (batch, longest) and their padding mask."""

    def make(lengths: list[int], vocab_size: int = 23) -> tuple[Tensor, Tensor]:
        src = torch.full((len(lengths), max(lengths)), PAD)
        for row, length in zip(src, lengths, strict=True):
            row[: length - 1] = torch.randint(4, vocab_size, (length - 1,))
            row[length - 1] = EOS
        return src, src == PAD

    return make
