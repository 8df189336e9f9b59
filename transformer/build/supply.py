"""What a loss is handed: translations drawn from the model, and what they cost by BLEU or chrF."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from transformer.data.tokenizer.base import Tokenizer
from transformer.decoding.sample import Sample
from transformer.evaluation.metrics import Bleu, ChrF, Metric
from transformer.model.transformer import Transformer
from transformer.training.supply import Ids, Supplies


def supplies(tokenizer: Tokenizer) -> Supplies:
    """What any loss may need; `tokenizer` is that of the target."""
    metrics = {"bleu": Bleu(lowercase=False, tokenize="13a"), "chrf": ChrF(word_order=0, lowercase=False)}
    return Supplies(_sampler, {name: partial(_costs, tokenizer, metric) for name, metric in metrics.items()})


def _sampler(n_samples: int, temperature: float) -> "partial[list[list[list[int]]]]":
    Sample(temperature, 0, 1.0, 0, n_samples)  # complains now, not at the first update
    return partial(_drawn, n_samples, temperature)


def _drawn(
    n_samples: int,
    temperature: float,
    model: Transformer,
    src: Tensor,
    src_key_padding_mask: Tensor,
    max_lengths: Tensor,
    seed: int,
) -> list[list[list[int]]]:
    search = Sample(temperature, top_k=0, top_p=1.0, seed=seed, n_best=n_samples)
    found = search.search(model, src, src_key_padding_mask, max_lengths)
    return [[hypothesis.ids for hypothesis in hypotheses] for hypotheses in found]


def _costs(
    tokenizer: Tokenizer, metric: Metric, candidates: Sequence[Sequence[Ids]], references: Sequence[Ids]
) -> list[list[float]]:
    """1 - sentence score / 100 of each candidate's text, given the reference's: to train by, never told as quality."""
    texts = [tokenizer.decode(ids) for rows in candidates for ids in rows]
    wanted = [tokenizer.decode(ids) for ids in references]
    repeated = [text for text, rows in zip(wanted, candidates, strict=True) for _ in rows]
    scores = iter(metric.sentence_scores(texts, repeated))
    return [[1.0 - next(scores) / 100.0 for _ in rows] for rows in candidates]
