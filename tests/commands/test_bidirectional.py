"""A model for both directions behind every command that starts from its checkpoint, on plain text."""

import json
from pathlib import Path
from typing import Any

import pytest

from transformer.commands import compare
from transformer.data.tokenizer.base import TokenizerPair

SEARCH = ["decoding=greedy", "translation.max_len_ratio=1"]


def directed(overrides: list[str], *more: str) -> list[str]:
    """The overrides of a run on files for one on the same files in both directions."""
    inside = [o.replace("data.", "data.corpus.", 1) if o.startswith("data.") else o for o in overrides]
    return ["data=bidirectional", "+data@data.corpus=files", *(o for o in inside if o != "data=files"), *more]


@pytest.fixture(scope="module")
def both(quick: list[str], call: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on the tiny corpus in both directions; tests write nothing there."""
    folder = tmp_path_factory.mktemp("both")
    ended = call("train", directed(quick, "training.max_epochs=1"), folder)
    assert ended.code == 0, ended.err
    assert "train: 120 of 120 pairs used" in ended.out
    return folder


@pytest.fixture
def best(both: Path) -> str:
    return f"checkpoint={both / 'saved' / 'run' / 'best'}"


def test_the_checkpoint_holds_the_tokens(both: Path) -> None:
    loaded = TokenizerPair.load(both / "saved" / "run" / "best" / "tokenizer")
    assert loaded.language_tokens == ("<2tgt>", "<2src>")
    assert loaded.src.tokens(loaded.src.encode("the dog"))[0] == "<2tgt>"


def n_best(call: Any, arguments: list[str], text: str, folder: Path) -> list[tuple[str, float]]:
    ended = call("translate", [*arguments, *SEARCH, "format=jsonl"], folder, text.encode())
    assert ended.code == 0, ended.err
    found = [json.loads(line)["translations"][0] for line in ended.out.splitlines()]
    return [(t["text"], t["log_prob"]) for t in found]


def test_plain_lines_are_translated_with_the_token_and_others_can_be_asked_for(
    best: str, call: Any, calm: list[str], tmp_path: Path
) -> None:
    def translated(text: str, *more: str) -> list[tuple[str, float]]:
        return n_best(call, [best, *calm, *more], text, tmp_path)

    plain = translated("the dog runs\n\na cat\n")
    assert plain[1] == ("", 0.0)
    assert translated("<2tgt> the dog runs\n\n<2tgt> a cat\n") == plain
    back = translated("the dog runs\n\na cat\n", "into=src")
    assert back == translated("<2src> the dog runs\n<2src>\n<2src> a cat\n")
    assert {log_prob for _, log_prob in back[::2]}.isdisjoint(log_prob for _, log_prob in plain[::2])
    assert translated("<2tgt> the dog runs\n\n<2tgt> a cat\n", "into=src") == plain


def test_a_language_that_the_model_does_not_have_is_told(
    best: str, call: Any, calm: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert call("translate", [best, *calm, *SEARCH], tmp_path, b"a cat\n<2fr> a cat\n<2 a cat\n").code == 0
    told = "line 2: <2fr> is none of the model's <2tgt>, <2src> and is translated as text"
    assert [message for message in caplog.messages if "<2" in message] == [told]


def test_scores_of_plain_lines_are_those_with_the_token(best: str, call: Any, calm: list[str], tmp_path: Path) -> None:
    texts = {"plain": "the dog runs\n", "marked": "<2tgt> the dog runs\n", "other": "<2src> the dog runs\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "tgt").write_text("runs dog the\n")

    def score(name: str, *more: str) -> str:
        ended = call("score", [best, *calm, f"src={name}", "tgt=tgt", *more], tmp_path)
        assert ended.code == 0, ended.err
        return ended.out

    assert score("plain") == score("marked") != score("other")
    assert score("plain", "into=src") == score("other")


def test_a_split_is_evaluated_either_way(
    best: str, tiny_text: Path, call: Any, calm: list[str], tmp_path: Path
) -> None:
    arguments = [best, *calm, *SEARCH, "n_bootstrap=0"]
    forward = call("evaluate", [*arguments, f"output_dir={tmp_path / 'forward'}"], tmp_path)
    back = call("evaluate", [*arguments, f"output_dir={tmp_path / 'back'}", "into=src"], tmp_path)
    assert (forward.code, back.code) == (0, 0), forward.err + back.err
    files = [json.loads((tmp_path / name).read_text()) for name in ("forward/test.json", "back/test_into_src.json")]
    losses = [file["results"][0]["scores"]["loss"]["value"] for file in files]
    turned = [f"src={tiny_text / 'test.tgt'}", f"ref={tiny_text / 'test.src'}"]
    assert call("evaluate", [*arguments, *turned, "into=src", f"output_dir={tmp_path / 'files'}"], tmp_path).code == 0
    given = json.loads((tmp_path / "files" / "test.tgt.json").read_text())
    assert given["results"][0]["scores"]["loss"]["value"] == losses[1] != losses[0]


def test_a_language_the_model_does_not_know_is_told(
    best: str, run: Any, call: Any, calm: list[str], tmp_path: Path
) -> None:
    ended = call("translate", [best, *calm, "into=fr"], tmp_path)
    assert "no token <2fr>, only <2tgt>, <2src>" in ended.sentence
    ended = call("translate", [f"checkpoint={run.best}", *calm, "into=tgt"], tmp_path)
    assert "it knows one direction only" in ended.sentence


def test_one_way_goes_on_with_the_same_vocabulary(both: Path, quick: list[str], call: Any, tmp_path: Path) -> None:
    ended = call("train", directed(quick, "data.both=false", "training.max_epochs=1", "seed=2"), tmp_path)
    assert ended.code == 0, ended.err
    assert "train: 60 of 60 pairs used" in ended.out
    one, two = (TokenizerPair.load(folder / "saved" / "run" / "best" / "tokenizer") for folder in (both, tmp_path))
    assert one.fingerprint() == two.fingerprint()


def test_a_run_in_both_directions_resumes(quick: list[str], call: Any, tmp_path: Path) -> None:
    assert call("train", directed(quick, "training.max_steps=3"), tmp_path).code == 0
    ended = call("train", directed(quick, "training.max_steps=5", "resume=true"), tmp_path)
    assert ended.code == 0, ended.err
    assert "step 3" in ended.out


def test_words_are_counted_in_the_language_that_is_written(
    best: str, call: Any, calm: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(compare, "word_counts", lambda lines: seen.append(list(lines)) or {})
    (tmp_path / "other.txt").write_text("the dog\n" * 12)
    systems = f"systems=[{best.removeprefix('checkpoint=')},other.txt]"
    for more in ([], ["into=src"]):
        arguments = [systems, *calm, *SEARCH, "output_dir=out", "significance.n_samples=10", *more]
        assert call("compare", arguments, tmp_path).code == 0
    assert [len(lines) for lines in seen] == [60, 60]
    assert [line.split()[::-1] for line in seen[0]] == [line.split() for line in seen[1]]


@pytest.mark.parametrize(("into", "own", "other"), [(None, "src", "tgt"), ("src", "tgt", "src")])
def test_one_direction_is_distilled(
    into: str | None, own: str, other: str, best: str, tiny_text: Path, call: Any, calm: list[str], tmp_path: Path
) -> None:
    words = [best, *calm, *SEARCH]
    asked = [] if into is None else [f"into={into}"]
    ended = call("distill", [*words, *asked, "output=out"], tmp_path)
    assert ended.code == 0, ended.err
    lines = (tiny_text / f"train.{own}").read_text()
    assert (tmp_path / "out/train.src").read_text() == lines
    translated = call("translate", [*words, *asked], tmp_path, lines.encode())
    assert (tmp_path / "out/train.tgt").read_text() == translated.out
    command = ended.out.partition("transformer-train ")[2].split()
    assert f"data.src_language={own}" in command
    assert f"data.validation.src={tiny_text}/valid.{own}" in command
    assert f"data.tests.test.tgt={tiny_text}/test.{other}" in command


def test_the_other_direction_is_not_gone_on_with(best: str, call: Any, calm: list[str], tmp_path: Path) -> None:
    begun = call("distill", [best, *calm, *SEARCH, "output=out"], tmp_path)
    assert begun.code == 0, begun.err
    (tmp_path / "out").rename(tmp_path / ".out.partial")
    ended = call("distill", [best, *calm, *SEARCH, "output=out", "into=src"], tmp_path)
    assert "into" in ended.sentence
