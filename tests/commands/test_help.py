"""--help: every value with its meaning, every group with its names, and only those that the command has."""

import re
from pathlib import Path
from typing import Any

import pytest

from transformer.config import SCHEMAS, config_dir


@pytest.fixture(scope="module")
def pages(call: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command prints for --help."""
    folder = tmp_path_factory.mktemp("help")
    ended = {command: call(command, ["--help"], folder) for command in SCHEMAS}
    assert not list(folder.iterdir())
    assert {(end.code, end.err) for end in ended.values()} == {(0, "")}
    return {command: end.out for command, end in ended.items()}


@pytest.mark.parametrize("command", SCHEMAS)
def test_a_page_has_its_parts_in_order(command: str, pages: dict[str, str]) -> None:
    page = pages[command]
    groups = [] if command in ("average", "export", "score", "plot") else ["\nGroups: "]
    parts = [f"Usage: transformer-{command} ", *groups, "\nValues: ", "\nExamples\n"]
    assert [page.count(part) for part in parts] == [1] * len(parts)
    assert sorted(parts, key=page.index) == parts
    assert page.count(f"transformer-{command}") >= 4
    assert "$$" not in page
    assert "APP_CONFIG" not in page


def test_only_the_groups_of_a_command_are_offered(pages: dict[str, str]) -> None:
    offered = {command: re.findall(r"^  ([\w/@]+)=\w+ +or ", page, re.MULTILINE) for command, page in pages.items()}
    assert offered["translate"] == offered["distill"] == ["decoding"]
    assert offered["evaluate"] == ["decoding", "metrics"]
    assert offered["compare"] == ["decoding", "metrics", "significance"]
    assert offered["sweep"] == ["sweep"]
    assert offered["average"] == offered["export"] == offered["score"] == offered["plot"] == []
    assert {"data", "tokenizer", "model", "model/position", "optimizer", "schedule", "experiment"} < set(
        offered["train"]
    )


def test_a_group_shows_what_is_chosen_and_all_else(pages: dict[str, str], call: Any, tmp_path: Path) -> None:
    assert re.search(r"^  optimizer=adam +or adamw, muon, schedule_free_adamw$", pages["train"], re.MULTILINE)
    page = call("train", ["--help", "optimizer=adamw", "data=files"], tmp_path).out
    assert re.search(r"^  optimizer=adamw +or adam, muon, schedule_free_adamw$", page, re.MULTILINE)
    assert re.search(r"^    weight_decay: \S+ +# decoupled, of matrices$", page, re.MULTILINE)
    names = sorted(path.stem for path in (config_dir() / "schedule").glob("*.yaml"))
    line = re.search(r"^  schedule=(\w+) +or (.*)$", page, re.MULTILINE)
    assert line
    assert sorted([line[1], *line[2].split(", ")]) == names


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("train", "    d_model: *"),
        ("train", "    dropout: * # of every sub-layer's output and of the embeddings"),
        (
            "train",
            "    vocab_size: * # token ids in a vocabulary, the 4 special ones and the 256 of byte fallback incl",
        ),
        ("train", "    threshold: * # least change that counts as improvement: nats, or points of BLEU"),
        ("train", "  name: bundled # saved/NAME and results/NAME belong to this run"),
        (
            "train",
            "    lowercase: ${tokenizer.lowercase} # lower-cased output can only be compared with lower-cased refer",
        ),
        ("train", "      folder: ${results_dir}/${name}"),
        ("translate", "  checkpoint: ??? # a folder such as saved/run/best"),
        ("translate", "      alpha: 1.0 # 0: rank by probability alone; higher favours longer translations"),
        ("evaluate", "  n_bootstrap: 1000 # resamples for the 95% interval; 0 = none"),
    ],
)
def test_values_stand_beside_their_meanings(command: str, line: str, pages: dict[str, str]) -> None:
    lines = [re.sub(r" +#", " #", line) for line in pages[command].splitlines()]
    pattern = re.escape(line).replace("\\*", r"\S+")  # a star: any value, for they are tuned now and then
    assert any(re.match(pattern, found) for found in lines)


def test_a_changed_value_is_shown(call: Any, tmp_path: Path) -> None:
    page = call("translate", ["--help", "decoding.beam_size=7"], tmp_path).out
    assert re.search(r"^    beam_size: 7 +# living hypotheses a sentence$", page, re.MULTILINE)


def test_a_mistake_beside_help_is_still_told(call: Any, tmp_path: Path) -> None:
    ended = call("translate", ["--help", "decodign=greedy"], tmp_path)
    assert ended.sentence.startswith("transformer-translate: there is no decodign to change; did you mean decoding?")


@pytest.mark.parametrize("command", SCHEMAS)
def test_the_whole_config_can_be_printed(command: str, call: Any, tmp_path: Path) -> None:
    ended = call(command, ["--cfg", "job"], tmp_path)
    assert ended.code == 0
    first = {
        "train": "name: bundled",
        "average": "run: null",
        "compare": "systems: ???",
        "plot": "runs: ???",
        "sweep": "name: sweep",
    }
    assert ended.out.startswith(f"{first.get(command, 'checkpoint: ???')}\n")
