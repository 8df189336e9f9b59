"""Every command that takes checkpoints searches as their runs did in the end, but for what its command line says."""

import json
import shutil
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from transformer.commands.search import Asked, Way, differing_note, on_top
from transformer.config import TranslationConfig
from transformer.error import UserError
from transformer.training.precision import Precision

BEAM: dict[str, Any] = {"_target_": "beam", "beam_size": 5, "penalty": {"_target_": "wu", "alpha": 1.0}, "rules": []}
OWN: dict[str, Any] = {
    "_target_": "beam",
    "beam_size": 4,
    "penalty": {"_target_": "average", "alpha": 1.5},
    "rules": ["a"],
}
LIMITS = TranslationConfig(
    max_tokens=8, max_len_ratio=2.0, max_len_offset=10, buffer_lines=9, refill=None, processes=None
)


def asked(*keys: str) -> list[Asked]:
    return [Asked(key.removeprefix("+"), key.startswith("+")) for key in keys]


def changed(base: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {**deepcopy(base), **values}


@pytest.mark.parametrize(
    ("keys", "composed", "expected"),
    [
        ([], BEAM, OWN),
        (["input", "runtime.threads", "decoding_other.beam_size", "validation.decoding.rules"], BEAM, OWN),
        (["decoding.beam_size"], BEAM, changed(OWN, beam_size=5)),
        (["decoding.penalty.alpha"], BEAM, changed(OWN, penalty={"_target_": "average", "alpha": 1.0})),
        (["decoding.penalty", "decoding.rules"], BEAM, changed(BEAM, beam_size=4)),
        (
            ["decoding.rules"],
            {k: v for k, v in BEAM.items() if k != "rules"},
            {k: v for k, v in OWN.items() if k != "rules"},
        ),
        (["+decoding.new"], changed(BEAM, new=None), changed(OWN, new=None)),
        (["decoding.coverage"], changed(BEAM, coverage=0.1), changed(OWN, coverage=0.1)),  # newer than the run
        (["decoding", "decoding.beam_size"], {"_target_": "greedy", "rules": []}, {"_target_": "greedy", "rules": []}),
    ],
)
def test_what_was_asked_for_is_put_on_top_of_the_run_s_own(
    keys: Sequence[str], composed: dict[str, Any], expected: dict[str, Any]
) -> None:
    own, before = deepcopy(OWN), deepcopy(composed)
    assert on_top(own, composed, asked(*keys)) == expected
    assert (own, composed) == (OWN, before)


def test_values_in_braces_are_those_of_their_keys(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    def translated(*more: str) -> str:
        ended = call("translate", [f"checkpoint={run.best}", "format=nbest", *calm, *more], tmp_path, b"dog cat the\n")
        assert ended.code == 0, ended.err
        out: str = ended.out
        return out

    limits = translated("translation.max_len_ratio=0.0", "translation.max_len_offset=2")
    assert translated("translation={max_len_ratio: 0.0, max_len_offset: 2}") == limits != translated()
    assert translated("decoding={n_best: 2}") == translated("decoding.n_best=2") != translated()


@pytest.mark.parametrize("key", ["decoding.beam_size", "decoding.penalty.alpha"])
def test_what_the_run_s_search_does_not_have_is_refused(key: str) -> None:
    with pytest.raises(UserError, match=rf"there is no {key} to change: the run's own search is another \(greedy\); "):
        on_top({"_target_": "greedy", "rules": []}, BEAM, asked(key))


def way(decoding: dict[str, Any] = BEAM, limits: TranslationConfig = LIMITS) -> Way:
    return Way(decoding, limits, Precision("fp32", torch.device("cpu")))


def test_searches_that_differ_are_told() -> None:
    beam, own = way(), way(changed(BEAM, beam_size=4))
    assert differing_note({}) == differing_note({"a": beam}) == differing_note({"a": beam, "b": beam}) == ""
    told = differing_note({"a": beam, "b": own, "c": beam})
    assert told.endswith("and that differs: decoding.beam_size is 5 for a, 4 for b, 5 for c")
    told = differing_note({"a": beam, "b": way({"_target_": "greedy"})})
    assert told.endswith("and that differs: decoding._target_ is beam for a, greedy for b")
    short = way(limits=TranslationConfig(8, 1.0, 10, 9, None, None))
    other = way(limits=TranslationConfig(7, 2.0, 10, 5, True, False))  # the machine's affair
    assert "translation.max_len_ratio is 2.0 for a, 1.0 for b" in differing_note({"a": beam, "b": short})
    assert differing_note({"a": beam, "b": other}) == ""


@pytest.fixture
def greedy(run: Any, unseal_config: Any, tmp_path: Path) -> Path:
    """A checkpoint whose run ended with a greedy search and at most three tokens a translation."""
    folder = tmp_path / "greedy"
    shutil.copytree(run.best.resolve(), folder)
    config = OmegaConf.load(folder / "config.yaml")
    config.decoding = {"_target_": "transformer.decoding.greedy.Greedy", "rules": []}
    config.translation.max_len_ratio, config.translation.max_len_offset = 0.0, 3
    OmegaConf.save(config, folder / "config.yaml")
    unseal_config(folder)
    return folder


def as_before(*more: str) -> list[str]:
    """Overrides for the search of the run that `greedy` was copied from."""
    return ["decoding=beam", "translation.max_len_ratio=1", "translation.max_len_offset=10", *more]


def test_translate_searches_as_the_run_did(greedy: Path, run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    def translations(folder: Path, *more: str) -> list[dict[str, Any]]:
        ended = call(
            "translate", [f"checkpoint={folder}", "format=jsonl", *more, *calm], tmp_path, b"the dog sees a cat\n"
        )
        assert ended.code == 0, ended.err
        return list(json.loads(ended.out)["translations"])

    own = translations(greedy)
    assert len(own[0]["tokens"]) <= 3
    assert own[0]["score"] == own[0]["log_prob"]  # greedy has no penalty
    assert own == translations(
        run.best, "decoding=greedy", "translation.max_len_ratio=0", "translation.max_len_offset=3"
    )
    assert translations(greedy, *as_before("decoding.n_best=2")) == translations(run.best, "decoding.n_best=2")
    assert len(translations(greedy, "translation.max_len_offset=2")[0]["tokens"]) <= 2
    ended = call("translate", [f"checkpoint={greedy}", "decoding.n_best=2", *calm], tmp_path)
    assert (
        "there is no decoding.n_best to change: the run's own search is another (transformer.decoding.greedy"
        in ended.sentence
    )


def test_evaluate_searches_with_each_as_its_run_did(
    greedy: Path, run: Any, call: Any, calm: list[str], tmp_path: Path
) -> None:
    common = ["n_bootstrap=0", *calm]
    both = call("evaluate", [f"checkpoint=[{run.best},{greedy}]", "output_dir=out", *common], tmp_path)
    assert both.code == 0, both.err
    assert "note: each system is searched with as in its own run" in both.out
    data = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    searches = {name: told["decoding"]["_target_"].rpartition(".")[2] for name, told in data["systems"].items()}
    assert list(searches.values()) == ["Beam", "Greedy"]
    assert list(searches) == [row["system"] for row in data["results"]]
    before = run.folder / "results" / "run" / "final" / "test.hyp.txt"
    beam, short = sorted((tmp_path / "out").glob("test.*.hyp.txt"), key=lambda path: "greedy" in path.name)
    assert beam.read_bytes() == before.read_bytes() != short.read_bytes()
    alike = call("evaluate", [f"checkpoint=[{run.best},{greedy}]", "output_dir=alike", *as_before(), *common], tmp_path)
    assert alike.code == 0, alike.err
    assert "is searched with as" not in alike.out
    assert {path.read_bytes() for path in (tmp_path / "alike").glob("test.*.hyp.txt")} == {before.read_bytes()}


def test_an_ensemble_searches_as_its_first_model_s_run_did_and_says_so(
    greedy: Path, run: Any, call: Any, calm: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def told(command: str, *more: str) -> str:
        caplog.clear()
        models = f"checkpoint=[{greedy},{run.best}]"
        ended = call(command, [models, *more, *calm], tmp_path, b"the dog sees a cat\n")
        assert ended.code == 0, ended.err
        return caplog.text

    note = "the ensemble is searched with as its first model's run did; not all agree: decoding._target_ is trans"
    assert note in told("translate")
    assert note in told("evaluate", "ensemble=true", "output_dir=out", "n_bootstrap=0")
    assert note in told("translate", "translation.max_len_ratio=1", "translation.max_len_offset=10")
    assert "ensemble" not in told("translate", *as_before())
    assert "not all agree: translation.max_len_ratio is 0.0 for" in told("translate", "decoding=greedy")


def test_a_mistake_in_the_second_search_shows_before_the_first_decodes(
    greedy: Path, run: Any, call: Any, calm: list[str], tmp_path: Path
) -> None:
    more = [f"checkpoint=[{run.best},{greedy}]", "output_dir=out", "decoding.beam_size=4", *calm]
    assert "there is no decoding.beam_size to change" in call("evaluate", more, tmp_path).sentence
    assert not (tmp_path / "out").exists()
    gone = call("evaluate", [f"checkpoint=[{run.best},gone]", *calm], tmp_path).sentence
    assert gone.startswith("transformer-evaluate: checkpoint gone does not exist; ")


def test_compare_and_distill_search_as_the_run_did(
    greedy: Path, run: Any, call: Any, calm: list[str], tiny_text: Path, tmp_path: Path
) -> None:
    ended = call(
        "compare", [f"systems=[{run.best},{greedy}]", "output_dir=out", "significance.n_samples=10", *calm], tmp_path
    )
    assert ended.code == 0, ended.err
    assert "note: each system is searched with as in its own run" in ended.out
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert '<p class="note">Each system is searched with as in its own run, and that differs: ' in page
    ended = call("distill", [f"checkpoint={greedy}", f"src={tiny_text}/test.src", "output=text", *calm], tmp_path)
    assert ended.code == 0, ended.err
    assert (tmp_path / "text" / "train.tgt").read_bytes() == (tmp_path / "out" / "system2.hyp.txt").read_bytes()
    facts = json.loads((tmp_path / "text" / "distill.json").read_text())
    assert (facts["decoding"]["_target_"], facts["translation"]["max_len_offset"]) == (
        "transformer.decoding.greedy.Greedy",
        3,
    )


FIXTURES = Path(__file__).parent.parent / "fixtures"


def test_number_formats_of_the_search_are_those_asked_for(call: Any, calm: list[str], tmp_path: Path) -> None:
    """In bfloat16 nearly the same log-probabilities, and not the same: it is really used."""
    source = FIXTURES / "checkpoint_v1_source.txt"
    common = [f"checkpoint={FIXTURES / 'checkpoint_v1'}", f"input={source}", "format=jsonl", *calm]
    found = {}
    for precision in ("fp32", "tf32", "bf16"):
        ended = call("translate", [*common, f"runtime.precision={precision}"], tmp_path)
        assert ended.code == 0, ended.err
        found[precision] = [json.loads(line)["translations"][0]["log_prob"] for line in ended.out.splitlines()]
    assert found["tf32"] == found["fp32"]  # a GPU's affair
    assert found["bf16"] != found["fp32"]
    assert found["bf16"] == pytest.approx(found["fp32"], rel=0.05, abs=0.1)


@pytest.mark.parametrize("command", ["translate", "score", "evaluate", "compare", "distill"])
def test_formats_that_cannot_be_are_refused(command: str, call: Any, calm: list[str], tmp_path: Path) -> None:
    (tmp_path / "in").write_text("the dog\n")
    needed = {"score": ["src=in", "tgt=in"], "compare": ["systems=[x,y]", "output_dir=o"], "distill": ["output=o"]}
    arguments = [*needed.get(command, []), *([] if command == "compare" else ["checkpoint=x"]), *calm]
    told = call(command, [*arguments, "runtime.precision=fp16"], tmp_path).sentence
    assert told == f"transformer-{command}: runtime: precision fp16 needs a GPU; on a CPU use fp32 or bf16"
    told = call(command, [*arguments, "runtime.recompute=true"], tmp_path).sentence  # means something in training alone
    assert told.startswith(f"transformer-{command}: there is no runtime.recompute to change")
