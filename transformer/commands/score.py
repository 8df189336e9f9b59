"""transformer-score: how likely a model finds translations that are given."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from transformer import build
from transformer.commands import entry
from transformer.commands.name import names
from transformer.commands.stream import begun, check_counts, check_files, count_lines, json_line, output_file, printed
from transformer.config import ScoreConfig
from transformer.data.corpus import Pair
from transformer.data.reader import read_aligned
from transformer.decoding.scorer import PairScore, Scorer
from transformer.error import UserError
from transformer.monitoring.bar import counting
from transformer.training.validate import perplexity

FORMATS = ("tsv", "jsonl")


def as_tsv(number: int, score: PairScore) -> str:
    """Log-probability, tokens, and their quotient."""
    n = len(score.tokens)
    return f"{score.log_prob:.4f}\t{n}\t{score.log_prob / n:.4f}\n"


def as_json(number: int, score: PairScore) -> str:
    """The same, with the log-probability of every token, as one JSON object."""
    values = {
        "line": number,
        "log_prob": score.log_prob,
        "tokens": score.tokens,
        "token_log_probs": score.token_log_probs,
    }
    return json_line(values)


def run(config: ScoreConfig) -> None:
    """Scores every pair of lines, in order; tells the corpus's loss on standard error."""
    if config.format not in FORMATS:
        raise UserError(f"format is {config.format}, but must be one of {', '.join(FORMATS)}")
    check_files([config.src, config.tgt], [config.output])
    check_counts(config.src, config.tgt)
    world = build.runtime(config.runtime)
    precision = build.precision_with_caution(config.runtime, world.device)
    loaded = build.load_together(names(config.checkpoint, "checkpoint"), config.runtime, world.device).into(config.into)
    scorer = Scorer(
        loaded.model, loaded.tokenizers, config.max_tokens, world.device, config.buffer_lines, precision.autocast
    )
    form = as_json if config.format == "jsonl" else as_tsv
    total, n_tokens, n_pairs, n_blank = 0.0, 0, 0, 0

    def pairs() -> Iterator[Pair]:
        nonlocal n_blank
        for pair in read_aligned(Path(config.src), Path(config.tgt)):
            n_blank += not (pair.src.strip() and pair.tgt.strip())
            yield pair

    with contextlib.ExitStack() as stack:
        if not printed(config.output):
            scorer.told = stack.enter_context(counting("scoring", lambda: count_lines(config.src), None))
        scores = begun(scorer.score(pairs()))
        file = stack.enter_context(output_file(config.output))
        for n_pairs, score in enumerate(scores, 1):
            file.write(form(n_pairs, score))
            file.flush()
            total, n_tokens = total + score.log_prob, n_tokens + len(score.tokens)
    told = f"{n_pairs:,} pairs, {f'{n_blank:,} of them blank on a side, ' if n_blank else ''}{n_tokens:,} tokens"
    if n_tokens:
        loss = -total / n_tokens
        told += f": loss {loss:.4f}, perplexity {perplexity(loss):.2f}"
    print(told, file=sys.stderr)


if __name__ == "__main__":
    entry.score()
