"""Lines in, translations out: streaming, in order, in batches of similar length."""

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transformer.data.tokenizer.base import Directed, TokenizerPair
from transformer.decoding.batch import Flow, untold
from transformer.decoding.demand import Demand
from transformer.decoding.request import Constraint, Request
from transformer.decoding.rule import MOST
from transformer.decoding.search import Hypothesis, NoTranslationError, Search, StepModel
from transformer.error import UserError
from transformer.processes import Processes
from transformer.special import EOS, PAD
from transformer.workers import side_by_side

logger = logging.getLogger(__name__)

SHORT = 16  # source tokens
MOST_WORKERS = 8  # more would wait for the interpreter


@dataclass(frozen=True)
class Translation:
    """One translation of a line.

    text: plain, detokenised. tokens: its pieces. log_prob: sum of log-probabilities, EOS included.
    score: what the n-best list is ranked by. ids: the pieces' ids, without BOS and EOS.
    """

    text: str
    tokens: list[str]
    log_prob: float
    score: float
    ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class LengthLimit:
    """A translation has at most ratio * source tokens + offset tokens, EOS included.

    Raises UserError for a ratio that is negative or not finite, or an offset below 1.
    """

    ratio: float
    offset: int

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < math.inf:
            raise UserError(f"max_len_ratio must be at least 0 and finite, but is {self.ratio}")
        if self.offset < 1:
            raise UserError(f"max_len_offset must be at least 1, not {self.offset}")


NOTHING = Translation("", [], 0.0, 0.0)


@dataclass(frozen=True)
class Job:
    """A line under way: its number, its source ids without EOS, and what it demands."""

    line: int
    ids: list[int]
    constraint: Constraint | None

    def learn(self, hypotheses: Sequence[Hypothesis]) -> bool:
        """Return whether to search again, see `Constraint.learn`."""
        return self.constraint is not None and self.constraint.learn(hypothesis.ids for hypothesis in hypotheses)


Searching = Processes[Sequence[Job], list[list[Hypothesis]]]


class Translator:
    """Translates lines of text with a model, its tokenizers and a search.

    Args:
        model: steps through translations; an nn.Module is put into evaluation mode while it works, and back. A
            source that exceeds its attribute max_len (if it has one) is cut to max_len tokens, EOS included, and the
            log warns with the line's number; so one long line does not end a stream of millions.
        tokenizers: source and target tokenizer of the model.
        search: how translations are found.
        max_tokens: most source tokens searched at once, padding and EOS included, times the hypotheses of a sentence.
            A sentence that alone exceeds it is searched alone.
        limit: how long a translation may be (and not longer than the model's max_len).
        device: where the model is.
        buffer_lines: lines read before the first of them is translated; sentences are sorted by length within them.
        refill: whether sentences that wait take the places of those that have ended, which keeps every step of a
            search full; otherwise sentences are searched batch by batch, and on a CPU as many batches side by side as
            torch has threads, at most MOST_WORKERS.

    Attributes:
        told: is called with the number of lines that have just been found; lines come out later, when all that were
            read ahead are found.
        autocast: the context in which searches compute; it decides the number format.
        processes: whether batches side by side are searched by processes forked from this one, as many as torch has
            threads, where there is work for all of them and no line demands something. Threads share one interpreter.

    Raises UserError for an impossible number.
    """

    def __init__(
        self,
        model: StepModel,
        tokenizers: TokenizerPair,
        search: Search,
        max_tokens: int,
        limit: LengthLimit,
        device: torch.device | str,
        buffer_lines: int = 4096,
        refill: bool = False,
    ) -> None:
        for name, value in (("max_tokens", max_tokens), ("buffer_lines", buffer_lines)):
            if value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        self.model = model
        self.tokenizers = tokenizers
        self.search = search
        self.max_tokens = max_tokens
        self.limit = limit
        self.device = torch.device(device)
        self.buffer_lines = buffer_lines
        self.refill = refill
        self.max_len: int | None = getattr(model, "max_len", None)
        self.told: Callable[[int], None] = untold
        self.autocast: Callable[[], AbstractContextManager[object]] = nullcontext
        self.processes = False

    def translate(self, lines: Iterable[str], n_before: int = 0) -> Iterator[list[Translation]]:
        """Yield the translations of each line, best first, in the order of the lines.

        A blank line, and one without a token, has one empty translation. Lines are taken `buffer_lines` at a time and
        never all held in memory. n_before: lines of the text before them, for the numbers in warnings.
        """
        yield from self.translate_requests((Request(line) for line in lines), n_before)

    def translate_requests(self, requests: Iterable[Request], n_before: int = 0) -> Iterator[list[Translation]]:
        """Yield the translations of lines that demand something of them, as `translate` does.

        Every translation meets the demands. The maximum length grows by the tokens demanded.

        Raises UserError, with the line's number, for a demand that cannot be met.
        """
        remaining = iter(requests)
        with Processes(self._search, self._n_workers()) as processes:
            while buffer := list(itertools.islice(remaining, self.buffer_lines)):
                yield from self._translate_buffer(buffer, n_before, processes)
                n_before += len(buffer)

    def _translate_buffer(
        self, requests: Sequence[Request], n_before: int, processes: Searching
    ) -> list[list[Translation]]:
        """Translate requests that follow `n_before` others."""
        sources = self._encoded([request.line for request in requests], n_before)
        jobs = [
            Job(n_before + i, self._limited(ids, n_before + i), self._constraint(request, ids, n_before + i))
            for i, (ids, request) in enumerate(zip(sources, requests, strict=True), start=1)
        ]
        translations: list[list[Translation]] = [[NOTHING] for _ in jobs]
        self.told(sum(not job.ids for job in jobs))

        def done(task: Sequence[Job], found: Sequence[Sequence[Hypothesis]]) -> None:
            for job, hypotheses in zip(task, found, strict=True):
                translations[job.line - n_before - 1] = [self._translation(hypothesis) for hypothesis in hypotheses]
            if not self.refill:
                self.told(len(task))

        tasks = [[jobs[i] for i in indices] for indices in self._tasks([len(job.ids) + 1 for job in jobs])]
        # A constraint holds a tokenizer and learns, so it is not sent to another process.
        shared = self.processes and not any(job.constraint for job in jobs)
        with evaluating(self.model):
            if shared and len(tasks) >= processes.n_workers > 1:
                processes.run(tasks, done)
            else:
                side_by_side(self._search, tasks, done, min(MOST_WORKERS, processes.n_workers))
        return translations

    def _n_workers(self) -> int:
        if self.refill or self.device.type != "cpu":
            return 1
        n_threads = torch.get_num_threads()
        return n_threads if self.processes else min(MOST_WORKERS, n_threads)

    def _tasks(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return what is searched together: indices of sentences, `lengths` tokens long with EOS; none of EOS alone."""
        if self.refill:
            return list(alike(lengths))
        n_sentences = sum(length > 1 for length in lengths)
        return list(batches(lengths, self.max_tokens // self.search.width, -(-n_sentences // self._n_workers())))

    def _encoded(self, lines: Sequence[str], n_before: int) -> list[list[int]]:
        """Return the source ids of every line without EOS, none for a blank one."""
        src = self.tokenizers.src
        if isinstance(src, Directed):
            for i, line in enumerate(lines, start=n_before + 1):
                if token := src.misspelt(line):
                    known = ", ".join(src.language_tokens)
                    logger.warning("line %d: %s is none of the model's %s and is translated as text", i, token, known)
        filled = [i for i, line in enumerate(lines) if line.strip()]
        sources: list[list[int]] = [[] for _ in lines]
        for i, ids in zip(filled, src.encode_lines([lines[i] for i in filled]), strict=True):
            sources[i] = ids
        return sources

    def _limited(self, ids: list[int], line: int) -> list[int]:
        if self.max_len is None or len(ids) + 1 <= self.max_len:
            return ids
        logger.warning(
            "line %d has %d source tokens with EOS, but the model takes %d: only its beginning is translated",
            line,
            len(ids) + 1,
            self.max_len,
        )
        return ids[: self.max_len - 1]

    def _constraint(self, request: Request, ids: list[int], line: int) -> Constraint | None:
        if not (request.prefix.strip() or request.required or request.forbidden):
            return None
        if request.line.strip() and not ids:
            raise UserError(f"line {line}: the vocabulary has no token for it, but it demands something")
        try:
            return Constraint(request, self.tokenizers.tgt)
        except UserError as error:
            raise UserError(f"line {line}: {error}") from error

    def _search(self, jobs: Sequence[Job]) -> list[list[Hypothesis]]:
        """Search sentences, and those again in which a forbidden phrase was found."""
        constrained = any(job.constraint for job in jobs)
        found = self._search_once(jobs, self.told if self.refill and not constrained else untold)
        todo = list(range(len(jobs)))
        while todo := [i for i in todo if jobs[i].learn(found[i])]:
            for i, hypotheses in zip(todo, self._search_once([jobs[i] for i in todo], untold), strict=True):
                found[i] = hypotheses
        if self.refill and constrained:
            self.told(len(jobs))
        return found

    def _search_once(self, jobs: Sequence[Job], told: Callable[[int], None]) -> list[list[Hypothesis]]:
        src = padded([[*job.ids, EOS] for job in jobs]).to(self.device)
        demands = [job.constraint.demand if job.constraint else Demand() for job in jobs]
        lengths = [self._max_length(job, demand) for job, demand in zip(jobs, demands, strict=True)]
        max_lengths = torch.tensor(lengths, device=self.device)
        given = demands if any(job.constraint for job in jobs) else None
        flow = Flow(self._room, told) if self.refill else Flow()
        try:
            with torch.inference_mode(), self.autocast():
                return self.search.search(self.model, src, src == PAD, max_lengths, given, flow)
        except NoTranslationError as error:
            raise UserError(f"line {jobs[error.sentence].line}: {error}") from error

    def _room(self, src_len: int) -> int:
        return max(1, self.max_tokens // self.search.width // src_len)

    def _max_length(self, job: Job, demand: Demand) -> int:
        length = int(min(self.limit.ratio * len(job.ids), MOST)) + self.limit.offset + demand.n_tokens - 1
        length = length if self.max_len is None else min(length, self.max_len)
        try:
            demand.check(length)
        except UserError as error:
            raise UserError(f"line {job.line}: {error}") from error
        return length

    def _translation(self, hypothesis: Hypothesis) -> Translation:
        tgt = self.tokenizers.tgt
        ids = hypothesis.ids
        # A byte token may write a line break, which would shift all later lines of a file.
        text = tgt.decode(ids).replace("\r", " ").replace("\n", " ")
        return Translation(text, tgt.tokens(ids), hypothesis.log_prob, hypothesis.score, tuple(ids))


def batches(lengths: Sequence[int], max_tokens: int, max_sentences: int | None = None) -> Iterator[list[int]]:
    """Yield indices of sentences, longest first, so that sentences times longest length stays within max_tokens.

    lengths: tokens with EOS. Sentences of EOS alone are left out; one longer than max_tokens comes alone.
    max_sentences: most sentences of a batch, None for any number.
    """
    order = sorted((i for i, length in enumerate(lengths) if length > 1), key=lambda i: -lengths[i])
    while order:
        n_sentences = min(max(1, max_tokens // lengths[order[0]]), max_sentences or len(order))
        yield order[:n_sentences]
        del order[:n_sentences]


def alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield indices of sentences, longest first, so that none is less than half as long as the longest with it.

    So a few long ones do not make all the others reckon with their length. lengths: tokens with EOS; sentences of EOS
    alone are left out. Up to SHORT tokens all go together.
    """
    order = sorted((i for i, length in enumerate(lengths) if length > 1), key=lambda i: -lengths[i])
    while order:
        least = lengths[order[0]] / 2 if lengths[order[0]] > SHORT else 0
        n_sentences = next((n for n, i in enumerate(order) if lengths[i] < least), len(order))
        yield order[:n_sentences]
        del order[:n_sentences]


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return rows of ids as one tensor, long (n_rows, longest), filled up with PAD."""
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)


@contextmanager
def evaluating(model: StepModel) -> Iterator[None]:
    """Put all parts of a module into evaluation mode, and each back into the mode it was in."""
    modes = [(part, part.training) for part in model.modules()] if isinstance(model, nn.Module) else []
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
