"""From token ids to vectors."""

import math

from torch import Tensor, nn

from transformer.model.dropout import Dropout
from transformer.model.position.base import Offset, Position
from transformer.special import PAD


class Embedding(nn.Module):
    """E[id] * sqrt(d_model) + position, then dropout (Vaswani et al., 2017, sections 3.4 and 5.4).

    Args:
        tokens: the table, shared when embeddings are tied.
        position: how positions enter.
        dropout: probability of dropping an element of the sum.
    """

    def __init__(self, tokens: nn.Embedding, position: Position, dropout: float) -> None:
        super().__init__()
        self.tokens, self.position = tokens, position
        self.scale = math.sqrt(tokens.embedding_dim)
        self.dropout = Dropout(dropout)

    def forward(self, ids: Tensor, offset: Offset = 0, cut: Tensor | None = None) -> Tensor:
        """Embeds.

        Args:
            ids: long (batch, length), from position `offset` on.
            offset: of the first position.
            cut: bool (batch, length), True = of this token nothing but its position is seen (Shen et al., 2020).

        Returns:
            float (batch, length, d_model).
        """
        x = self.tokens(ids) * self.scale
        if cut is not None:
            x = x.masked_fill(cut[:, :, None], 0.0)
        return self.dropout(self.position.embed(x, offset))


def token_table(vocab_size: int, d_model: int) -> nn.Embedding:
    """An embedding table, normal with standard deviation d_model^-0.5, the padding row zero and not learned as input.

    Where the table is the output projection too, its padding row is learned as output; as input it is always masked.
    """
    table = nn.Embedding(vocab_size, d_model, padding_idx=PAD)
    nn.init.normal_(table.weight, std=d_model**-0.5)
    nn.init.zeros_(table.weight[PAD])
    return table
