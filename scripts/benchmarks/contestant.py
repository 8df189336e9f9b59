"""One contestant in a process of its own: loads its model, then decodes when told to, through JSON lines."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import note_children, peak_megabytes
from benchmarks.peers import to_huggingface, token
from transformer import build
from transformer.config import MachineConfig
from transformer.decoding.beam import Beam
from transformer.decoding.greedy import Greedy
from transformer.decoding.penalty import Average
from transformer.decoding.rule import MinLength, Rule
from transformer.decoding.search import Hypothesis, Search
from transformer.decoding.translator import padded
from transformer.processes import Processes, can_fork
from transformer.special import EOS, PAD
from transformer.workers import side_by_side

Ids = list[list[int]]
Decode = Callable[[Ids, int, int | None, int], Ids]  # sources, beam, forced tokens, sentences a batch


def runtime(threads: int) -> MachineConfig:
    """The machine of every contestant."""
    return MachineConfig("cpu", threads, precision="fp32", fused_attention=True, keep_memory=True, arithmetic="auto")


def longest(source: list[int]) -> int:
    """Most tokens of a translation, EOS not counted."""
    return 2 * len(source) + 10


def in_batches(sources: Ids, batch: int) -> list[list[int]]:
    """Indices of sentences of like length, `batch` at a time, longest first."""
    order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
    return [order[i : i + batch] for i in range(0, len(order), batch)]


@dataclass(frozen=True)
class Portion:
    """Sentences searched together: their numbers, ids, most tokens with EOS, and how."""

    indices: list[int]
    sources: Ids
    limits: list[int]
    beam: int
    forced: int | None

    def search(self) -> Search:
        """Greedy or beam search; with the forced number of tokens, if any."""
        rules: list[Rule] = [] if self.forced is None else [MinLength(ratio=0.0, offset=self.forced + 1)]
        return Greedy(rules) if self.beam == 1 else Beam(self.beam, 1, Average(1.0), early_stopping=True, rules=rules)


def ours(checkpoint: str, folder: Path, threads: int, workers: int, processes: bool = False) -> Decode:
    """This project: batch by batch, or several side by side in threads or, as `translate` does, in processes.

    The processes stay, as they do while `translate` reads a long text.
    """
    config = runtime(threads)
    world = build.runtime(config)
    model = build.load(checkpoint, config, world.device).model

    def work(portion: Portion) -> list[list[Hypothesis]]:
        src = padded([[*source, EOS] for source in portion.sources])
        with torch.inference_mode():
            return portion.search().search(model, src, src == PAD, torch.tensor(portion.limits))

    pool = Processes(work, workers) if processes else None

    def decode(sources: Ids, beam: int, forced: int | None, batch: int) -> Ids:
        found: Ids = [[] for _ in sources]

        def done(portion: Portion, hypotheses: list[list[Hypothesis]]) -> None:
            for i, best in zip(portion.indices, hypotheses, strict=True):
                found[i] = best[0].ids

        portions = []
        for indices in in_batches(sources, batch):
            limits = [(longest(sources[i]) if forced is None else forced) + 1 for i in indices]
            portions.append(Portion(indices, [sources[i] for i in indices], limits, beam, forced))
        if pool:
            pool.run(portions, done)
            note_children()
        else:
            side_by_side(work, portions, done, workers)
        return found

    return decode


def ctranslate2(checkpoint: str, folder: Path, threads: int, workers: int) -> Decode:
    """CTranslate2, float32; its own sorting and batching."""
    import ctranslate2 as library

    translator = library.Translator(
        str(folder / "ctranslate2"),
        device="cpu",
        compute_type="float32",
        inter_threads=workers,
        intra_threads=max(1, threads // workers),
    )

    def decode(sources: Ids, beam: int, forced: int | None, batch: int) -> Ids:
        found: Ids = [[] for _ in sources]
        lengths = {i: longest(sources[i]) if forced is None else forced for i in range(len(sources))}
        pending = []
        for indices in in_batches(sources, batch):
            most = max(lengths[i] for i in indices)
            results = translator.translate_batch(
                [[token(id_) for id_ in sources[i]] for i in indices],
                beam_size=beam,
                length_penalty=1.0,
                max_decoding_length=most,
                min_decoding_length=1 if forced is None else forced,
                asynchronous=True,
            )
            pending.append((indices, results))
        for indices, results in pending:
            for i, result in zip(indices, results, strict=True):
                found[i] = [{"<unk>": 1}.get(t) or int(t) for t in result.result().hypotheses[0]]
        return found

    return decode


def huggingface(checkpoint: str, folder: Path, threads: int) -> Decode:
    """Hugging Face generate on the same weights."""
    config = runtime(threads)
    world = build.runtime(config)
    model: Any = to_huggingface(build.load(checkpoint, config, world.device))

    def decode(sources: Ids, beam: int, forced: int | None, batch: int) -> Ids:
        found: Ids = [[] for _ in sources]
        with torch.inference_mode():
            for indices in in_batches(sources, batch):
                src = padded([[*sources[i], EOS] for i in indices])
                most = max(longest(sources[i]) for i in indices) + 1 if forced is None else forced
                out = model.generate(
                    input_ids=src,
                    attention_mask=(src != PAD).long(),
                    num_beams=beam,
                    do_sample=False,
                    length_penalty=1.0,
                    early_stopping=True,
                    max_new_tokens=most,
                    min_new_tokens=1 if forced is None else forced,
                    bad_words_ids=[[PAD]],
                )
                for i, row in zip(indices, out[:, 1:].tolist(), strict=True):
                    found[i] = row[: row.index(EOS)] if EOS in row else [id_ for id_ in row if id_ != PAD]
        return found

    return decode


CONTESTANTS: dict[str, Callable[[str, Path, int], Decode]] = {
    "this project": lambda c, f, t: ours(c, f, t, workers=t, processes=can_fork()),
    "this project, threads": lambda c, f, t: ours(c, f, t, workers=t),
    "this project, one batch at a time": lambda c, f, t: ours(c, f, t, workers=1),
    "CTranslate2, one worker": lambda c, f, t: ctranslate2(c, f, t, workers=1),
    "CTranslate2, a worker a thread": lambda c, f, t: ctranslate2(c, f, t, workers=t),
    "Hugging Face generate": huggingface,
}


def main(name: str, checkpoint: str, folder: str, threads: int) -> None:
    """Answers one JSON line for each JSON line read."""
    torch.set_num_threads(threads)
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    decode = CONTESTANTS[name](checkpoint, Path(folder), threads)
    sources: Ids = json.loads((Path(folder) / "sources.json").read_text(encoding="utf-8"))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        begin = time.perf_counter()
        found = decode(sources[: job["n"]], job["beam"], job["forced"], job["batch"])
        answer = {"seconds": time.perf_counter() - begin, "found": found, "megabytes": peak_megabytes()}
        print(json.dumps(answer), file=answers, flush=True)
