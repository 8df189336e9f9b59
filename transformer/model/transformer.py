"""The encoder-decoder Transformer of "Attention Is All You Need" (Vaswani et al., 2017)."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from transformer.model.arithmetic import by_onednn, linear
from transformer.model.attention import Merged, Mix, xavier_by_part
from transformer.model.cache import DecoderState, LayerCache
from transformer.model.dropout import Dropout
from transformer.model.embedding import Embedding, token_table
from transformer.model.layers import DecoderLayer, EncoderLayer, LayerShape
from transformer.model.linear import Linear
from transformer.model.masks import from_padding
from transformer.model.position.base import Position
from transformer.model.recompute import recomputed

TYINGS = ("none", "two", "three")


@dataclass(frozen=True)
class Vocabulary:
    """Sizes and sharing of the token tables.

    Attributes:
        src_size: source vocabulary, with the four special ids.
        tgt_size: target vocabulary, likewise.
        tying: "none"; "two" (target embedding = output projection); "three" (source embedding as well, which needs
            one vocabulary for both languages).
    """

    src_size: int
    tgt_size: int
    tying: str

    def __post_init__(self) -> None:
        if self.tying not in TYINGS:
            raise ValueError(f"tying must be one of {', '.join(TYINGS)}, not {self.tying}")
        if self.tying == "three" and self.src_size != self.tgt_size:
            raise ValueError(
                f"three-way tying needs one vocabulary, but the sizes are {self.src_size} (source) and "
                f"{self.tgt_size} (target)"
            )


@dataclass(frozen=True)
class Weights:
    """Attention weights of one forward pass, one float tensor (batch, n_heads, query_len, key_len) a layer."""

    encoder: list[Tensor]
    decoder: list[Tensor]
    cross: list[Tensor]


class Transformer(nn.Module):
    """Encoder, decoder, embeddings and the output projection.

    Args:
        vocabulary: sizes and tying of the token tables.
        shape: what the layers have in common.
        n_encoder_layers: at least 1.
        n_decoder_layers: at least 1.
        position: makes the positions, called with d_model, n_heads and max_len.
        max_len: most tokens of a sequence, BOS or EOS counted.

    Attributes:
        recompute: keep only the inputs of the layers for the backward pass, and compute the rest again: less memory,
            more time, the same bits.
        compiled: what is called in training in place of some layers; it computes the same up to rounding.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        shape: LayerShape,
        n_encoder_layers: int,
        n_decoder_layers: int,
        position: Callable[..., Position],
        max_len: int,
    ) -> None:
        super().__init__()
        self.vocabulary, self.shape, self.max_len = vocabulary, shape, max_len
        self.recompute = False
        self.compiled: dict[nn.Module, Callable[..., Tensor]] = {}
        self._projection: Tensor | None = None  # the output's matrix by column, see `lay_out_by_column`
        d_model = shape.d_model
        src_position = position(d_model=d_model, n_heads=shape.n_heads, max_len=max_len)
        tgt_position = position(d_model=d_model, n_heads=shape.n_heads, max_len=max_len)
        tgt_table = token_table(vocabulary.tgt_size, d_model)
        src_table = tgt_table if vocabulary.tying == "three" else token_table(vocabulary.src_size, d_model)
        self.src_embedding = Embedding(src_table, src_position, shape.dropout)
        self.tgt_embedding = Embedding(tgt_table, tgt_position, shape.dropout)
        self.encoder_layers = nn.ModuleList(EncoderLayer(shape, src_position) for _ in range(n_encoder_layers))
        self.decoder_layers = nn.ModuleList(DecoderLayer(shape, tgt_position) for _ in range(n_decoder_layers))
        pre = shape.norm == "pre"
        self.encoder_norm = nn.LayerNorm(d_model) if pre else nn.Identity()
        self.decoder_norm = nn.LayerNorm(d_model) if pre else nn.Identity()
        self.output = nn.Linear(d_model, vocabulary.tgt_size, bias=False)
        self._initialise()
        if vocabulary.tying != "none":
            self.output.weight = tgt_table.weight

    def _initialise(self) -> None:
        nn.init.normal_(self.output.weight, std=self.shape.d_model**-0.5)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module is not self.output:
                xavier_by_part(module, 1)
        for module in self.modules():
            if isinstance(module, Merged):
                xavier_by_part(module, module.n_parts)

    @property
    def n_parameters(self) -> int:
        """Trainable parameters, shared ones counted once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def use_fast_paths(self, fused_attention: bool, bulk_dropout: bool) -> None:
        """Chooses between the fast paths and the plain ones, which compute the same."""
        for module in self.modules():
            if isinstance(module, Mix):
                module.fused = fused_attention
            elif isinstance(module, Dropout):
                module.bulk = bulk_dropout

    def lay_out_by_column(self) -> None:
        """Stores the matrices of linear maps by column, which a CPU multiplies faster where nothing is learnt.

        The same numbers in other places; products come out the same up to rounding. Token tables stay by row; of that
        of the output a search gets a copy where oneDNN multiplies, which halves its time where rows are few. For models
        that stay as they are: a table that changes later does not change the copy.
        """
        for module in self.modules():
            if isinstance(module, Linear):
                module.weight.data = module.weight.data.t().contiguous().t()
        if by_onednn():
            self._projection = self.output.weight.detach().t().contiguous().t()

    def _through(self, layer: nn.Module, *inputs: Tensor | None) -> Tensor:
        call = self.compiled.get(layer, layer) if self.training else layer
        again = self.recompute and self.training and torch.is_grad_enabled()
        return recomputed(call, *inputs) if again else call(*inputs)

    def encode(self, src: Tensor, src_key_padding_mask: Tensor, cut: Tensor | None = None) -> Tensor:
        """Encodes.

        Args:
            src: long (batch, src_len).
            src_key_padding_mask: bool (batch, src_len), True = padding.
            cut: bool (batch, src_len), True = of this token nothing but its position is seen.

        Returns:
            memory, float (batch, src_len, d_model).
        """
        visible = from_padding(src_key_padding_mask)
        x = self.src_embedding(src, cut=cut)
        for layer in self.encoder_layers:
            x = self._through(layer, x, visible)
        return self.encoder_norm(x)

    def decode(
        self,
        tgt_in: Tensor,
        memory: Tensor,
        src_key_padding_mask: Tensor,
        tgt_key_padding_mask: Tensor | None = None,
        cut: Tensor | None = None,
    ) -> Tensor:
        """Decodes all positions at once, each seeing only earlier ones and itself.

        Args:
            tgt_in: long (batch, tgt_len), BOS first.
            memory: float (batch, src_len, d_model).
            src_key_padding_mask: bool (batch, src_len), True = padding.
            tgt_key_padding_mask: bool (batch, tgt_len), True = padding. Needed only where padding stands before
                tokens: padding behind them is in their future, which is hidden anyway.
            cut: bool (batch, tgt_len), True = of this token nothing but its position is seen.

        Returns:
            float (batch, tgt_len, d_model); `output` maps it to logits.
        """
        memory_visible = from_padding(src_key_padding_mask)
        visible = None if tgt_key_padding_mask is None else from_padding(tgt_key_padding_mask)
        x = self.tgt_embedding(tgt_in, cut=cut)
        for layer in self.decoder_layers:
            x = self._through(layer, x, memory, visible, memory_visible)
        return self.decoder_norm(x)

    def forward(self, src: Tensor, tgt_in: Tensor, src_key_padding_mask: Tensor) -> Tensor:
        """Logits of every next token.

        Args:
            src: long (batch, src_len).
            tgt_in: long (batch, tgt_len).
            src_key_padding_mask: bool (batch, src_len), True = padding.

        Returns:
            float (batch, tgt_len, tgt_vocab_size).
        """
        memory = self.encode(src, src_key_padding_mask)
        return self.output(self.decode(tgt_in, memory, src_key_padding_mask))

    def start(self, src: Tensor, src_key_padding_mask: Tensor, width: int, capacity: int) -> DecoderState:
        """Encodes and projects the memory, once for the whole search.

        Args:
            src: long (n_sentences, src_len).
            src_key_padding_mask: bool (n_sentences, src_len), True = padding.
            width: hypotheses a sentence.
            capacity: most steps.
        """
        memory = self.encode(src, src_key_padding_mask)
        layers = []
        for layer in cast(Iterable[DecoderLayer], self.decoder_layers):
            memory_key, memory_value = layer.cross_attention.project_memory(memory)
            # Whoever sees nothing of a source mixes zeros.
            memory_value = memory_value.masked_fill(src_key_padding_mask[:, None, :, None], 0.0)
            layers.append(LayerCache(memory_key, memory_value, width))
        in_columns = self.tgt_embedding.position.bias(1, 1, src.device) is not None
        return DecoderState(layers, from_padding(src_key_padding_mask), width, capacity, in_columns)

    def step(self, ids: Tensor, state: DecoderState) -> Tensor:
        """Feeds one token to every hypothesis.

        Args:
            ids: long (n_sentences, width); in the first step (n_sentences, 1) will do, for all slots alike.
            state: from `start`.

        Returns:
            logits of the next tokens, float (n_sentences, width, tgt_vocab_size), or with one slot if one was fed.
        """
        state.open_step()
        x = self.tgt_embedding(ids.reshape(-1, 1), offset=state.offset).view(*ids.shape, -1)
        bias = state.bias()
        bias = None if bias is None else bias[:, :, : ids.size(1)]
        weights: list[Tensor] = []  # of the last layer, where they are wanted
        layers = list(cast(Iterable[DecoderLayer], self.decoder_layers))
        for layer, cache in zip(layers, state.layers, strict=True):
            x = layer.step(x, cache, state, bias, weights if state.attending and layer is layers[-1] else None)
        state.attention = weights[0].mean(1)[:, :, : state.src_len] if weights else None
        state.length += 1
        x = self.decoder_norm(x)
        with torch.autocast(x.device.type, enabled=False):  # rounded logits would tie, and ties cost a search time
            return linear(x.float(), self.output.weight if self._projection is None else self._projection)

    @contextmanager
    def recording(self) -> Iterator[Weights]:
        """Inside this context every forward pass appends its attention weights to what is yielded."""
        weights = Weights([], [], [])
        places: list[tuple[Mix, list[Tensor]]] = []
        for encoder_layer in cast(Iterable[EncoderLayer], self.encoder_layers):
            places.append((encoder_layer.self_attention.mix, weights.encoder))
        for decoder_layer in cast(Iterable[DecoderLayer], self.decoder_layers):
            places.append((decoder_layer.self_attention.mix, weights.decoder))
            places.append((decoder_layer.cross_attention.mix, weights.cross))
        for mix, into in places:
            mix.recorded = into
        try:
            yield weights
        finally:
            for mix, _ in places:
                mix.recorded = None
