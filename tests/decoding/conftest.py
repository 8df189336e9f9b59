import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from transformer.decoding.search import AT_ONCE
from transformer.special import BOS, EOS, PAD

Script = Callable[[int, tuple[int, ...]], Tensor]


class ScriptedState:
    """The prefixes themselves: what every cache must be equal to."""

    def __init__(self, sentences: list[int], width: int, capacity: int) -> None:
        self.sentences = sentences
        self.width = width
        self.capacity = capacity
        self.begun = [False] * len(sentences)
        self.prefixes: list[list[tuple[int, ...]]] = [[()] * width for _ in sentences]

    @property
    def n_sentences(self) -> int:
        return len(self.sentences)

    def reorder(self, parents: Tensor) -> None:
        assert parents.shape == (self.n_sentences, self.width)
        rows = zip(self.prefixes, parents.tolist(), strict=True)
        self.prefixes = [[prefixes[parent] for parent in row] for prefixes, row in rows]

    def keep(self, sentences: Tensor) -> None:
        assert len(sentences) > 0
        self.prefixes = [self.prefixes[i] for i in sentences.tolist()]
        self.begun = [self.begun[i] for i in sentences.tolist()]
        self.sentences = [self.sentences[i] for i in sentences.tolist()]

    def admit(self, rows: Tensor, fresh: "ScriptedState") -> None:
        assert (fresh.width, len(rows), any(fresh.begun)) == (self.width, fresh.n_sentences, False)
        new = sorted(row for row in rows.tolist() if row >= self.n_sentences)
        assert new == list(range(self.n_sentences, self.n_sentences + len(new)))
        for name in ("sentences", "prefixes", "begun"):
            values = [*getattr(self, name), *[None] * len(new)]
            for row, value in zip(rows.tolist(), getattr(fresh, name), strict=True):
                values[row] = value
            setattr(self, name, values)


class ScriptedModel:
    """Logits that depend on the sentence (its first source id) and on the tokens so far, as a script says."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.rows_stepped: list[int] = []

    def start(self, src: Tensor, src_key_padding_mask: Tensor, width: int, capacity: int) -> ScriptedState:
        assert src.shape == src_key_padding_mask.shape
        assert src_key_padding_mask.dtype == torch.bool
        return ScriptedState(src[:, 0].tolist(), width, capacity)

    def step(self, ids: Tensor, state: ScriptedState) -> Tensor:
        n_slots = state.width if any(state.begun) else ids.size(1)  # all are alike at first
        assert ids.shape == (state.n_sentences, n_slots)
        assert n_slots in (1, state.width)
        for n, row in enumerate(ids.tolist()):
            if state.begun[n]:
                state.prefixes[n] = [(*prefix, token) for prefix, token in zip(state.prefixes[n], row, strict=True)]
            else:
                assert row == [BOS] * n_slots
                state.begun[n] = True
        self.rows_stepped.append(state.n_sentences)
        return torch.stack(
            [
                torch.stack([self.script(sentence, prefix) for prefix in prefixes[:n_slots]])
                for sentence, prefixes in zip(state.sentences, state.prefixes, strict=True)
            ]
        )

    def log_prob(self, sentence: int, ids: list[int]) -> float:
        """Return the sum of log-probabilities of ids and EOS."""
        steps = [self.script(sentence, tuple(ids[:i])).double().log_softmax(-1) for i in range(len(ids) + 1)]
        return sum(float(step[token]) for step, token in zip(steps, [*ids, EOS], strict=True))

    def all_translations(self, sentence: int, vocab_size: int, max_length: int) -> list[tuple[list[int], float]]:
        """Return every translation of at most max_length tokens, EOS included, with its log-probability."""
        alphabet = [token for token in range(vocab_size) if token not in (PAD, BOS, EOS)]
        found = []
        for length in range(max_length):
            for ids in itertools.product(alphabet, repeat=length):
                found.append((list(ids), self.log_prob(sentence, list(ids))))
        return found


def random_script(vocab_size: int, seed: int, eos_bonus: float = 0.0, scale: float = 2.0, step: float = 0.0) -> Script:
    """Return a script of random logits; step > 0 rounds them to multiples of it, so that there are ties."""
    memory: dict[tuple[int, tuple[int, ...]], Tensor] = {}

    def script(sentence: int, prefix: tuple[int, ...]) -> Tensor:
        key = (sentence, prefix)
        if key not in memory:
            generator = torch.Generator().manual_seed(hash((seed, *key)) % 2**62)
            logits = scale * torch.randn(vocab_size, generator=generator)
            logits[EOS] += eos_bonus
            memory[key] = (logits / step).round() * step if step else logits
        return memory[key]

    return script


def sources(sentences: list[int]) -> tuple[Tensor, Tensor]:
    src = torch.tensor(sentences).unsqueeze(1)
    return src, torch.zeros_like(src, dtype=torch.bool)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep to one thread: the tensors here are so small that several only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def scripted_model() -> type[ScriptedModel]:
    return ScriptedModel


@pytest.fixture(scope="session")
def make_script() -> Callable[..., Script]:
    return random_script


@pytest.fixture(scope="session")
def run_search() -> Callable:
    """Return a function: search, model, sentence numbers, maximum lengths, demands -> list of list of Hypothesis."""

    def run(search, model, sentences: list[int], max_lengths: list[int], demands=None, flow=AT_ONCE):
        return search.search(model, *sources(sentences), torch.tensor(max_lengths), demands, flow)

    return run
