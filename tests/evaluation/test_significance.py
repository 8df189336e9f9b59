import json
import re
import subprocess
import sys

import pytest

from transformer.error import UserError
from transformer.evaluation.compare import compare
from transformer.evaluation.metrics import Bleu, ChrF, Metric, Ter
from transformer.evaluation.significance import Bootstrap, Randomization, significance_table

BLEU = Bleu(lowercase=False, tokenize="13a")


@pytest.fixture(scope="module")
def third(references):
    return [line.replace("Ein", "Der") for line in references]


@pytest.fixture(scope="module")
def files(tmp_path_factory, hypotheses, better, third, references):
    folder = tmp_path_factory.mktemp("paired")
    for name, lines in (("base", hypotheses), ("better", better), ("third", third), ("ref", references)):
        (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def sacrebleu_command(files):
    def run(*arguments: str) -> list[dict]:
        command = [sys.executable, "-m", "sacrebleu", "ref", "-i", "base", "better", "third", "-f", "json", *arguments]
        done = subprocess.run(command, cwd=files, capture_output=True, check=True, text=True)
        # Behind the JSON the command explains the test.
        return json.JSONDecoder().raw_decode(done.stdout)[0]

    return run


def assert_same(found, printed, metric, signed):
    assert [d.system for d in found] == ["better", "third"]
    for difference, expected in zip(found, printed[1:], strict=True):
        assert difference.metric == metric
        assert difference.baseline == "base"
        assert difference.p_value == pytest.approx(expected[metric]["p_value"])
        assert difference.value == pytest.approx(expected[metric]["score"])
        assert difference.baseline_value == pytest.approx(printed[0][metric]["score"])
        assert difference.difference == pytest.approx(expected[metric]["score"] - printed[0][metric]["score"])
        assert signed in difference.signature


def test_bootstrap_is_that_of_the_command_line(sacrebleu_command, hypotheses, better, third, references):
    # Of chrF the command line (2.6.0) cannot print this test as JSON.
    printed = sacrebleu_command("-m", "bleu", "--paired-bs", "--paired-bs-n", "300")
    systems = {"base": hypotheses, "better": better, "third": third}
    assert_same(Bootstrap(300).compare(systems, references, [BLEU]), printed, "BLEU", "|bs:300|seed:12345|")


def test_randomisation_is_that_of_the_command_line(sacrebleu_command, hypotheses, better, third, references):
    printed = sacrebleu_command("-m", "bleu", "chrf", "--paired-ar", "--paired-ar-n", "200")
    systems = {"base": hypotheses, "better": better, "third": third}
    found = Randomization(200).compare(systems, references, [BLEU, ChrF(word_order=0, lowercase=False)])
    assert_same(found[:2], printed, "BLEU", "|ar:200|seed:12345|")
    assert_same(found[2:], printed, "chrF2", "|ar:200|seed:12345|")


@pytest.mark.parametrize("test", [Bootstrap(200), Randomization(200)])
def test_a_clear_difference_and_none(test, hypotheses, better, references):
    [clear] = test.compare({"a": hypotheses, "b": better}, references, [BLEU])
    assert clear.p_value < 0.05
    assert clear.difference > 5
    [none] = test.compare({"a": hypotheses, "b": hypotheses}, references, [BLEU])
    assert none.p_value == 1.0
    assert none.difference == 0


def test_bleu_with_and_without_case_are_told_apart(hypotheses, better, references):
    metrics = [BLEU, Bleu(lowercase=True, tokenize="13a"), Ter(lowercase=True)]
    found = Bootstrap(50).compare({"a": hypotheses, "b": better}, references, metrics)
    assert [d.metric for d in found] == ["BLEU", "BLEU-lc", "TER-lc"]
    for difference, metric in zip(found, metrics, strict=True):
        assert difference.value == pytest.approx(metric.score(better, references, n_bootstrap=0).value)
    assert found[0].value < found[1].value


def test_table(hypotheses, better, references):
    test = Bootstrap(50)
    found = test.compare({"small": hypotheses, "tiny": better}, references, [BLEU])
    lines = significance_table(found, test).splitlines()
    assert lines[0] == "paired bootstrap, 50 samples, against small"
    assert lines[2].split()[:2] == ["tiny", "BLEU"]
    assert lines[2].endswith(" * better")
    assert lines[-1] == f"BLEU: {found[0].signature}"
    assert max(map(len, lines[:-1])) <= 80
    assert significance_table([], test) == ""
    unsigned = significance_table(found, test, {("BLEU", found[0].signature)}).splitlines()
    assert unsigned == lines[: len(unsigned)]
    assert "seed" not in unsigned[-1]


def test_a_long_name_stands_on_a_line_of_its_own(hypotheses, better, references):
    name = "a_rather_long_run_name/step_000010000"
    test = Bootstrap(50)
    lines = significance_table(test.compare({"a": hypotheses, name: better}, references, [BLEU]), test).splitlines()
    assert lines[2] == name
    assert lines[3].split()[0] == "BLEU"
    assert lines[3].index("BLEU") == lines[1].index("metric")
    assert max(map(len, lines[:-1])) <= 80


def test_verdicts_know_error_rates(hypotheses, better, references):
    metrics = [BLEU, Ter(lowercase=True)]
    found = Bootstrap(100).compare({"a": hypotheses, "b": better, "c": hypotheses}, references, metrics)
    assert [(d.metric, d.difference > 0, d.verdict) for d in found if d.system == "b"] == [
        ("BLEU", True, "better"),
        ("TER-lc", False, "better"),
    ]
    assert [d.verdict for d in found if d.system == "c"] == ["", ""]
    back = Bootstrap(100).compare({"b": better, "a": hypotheses}, references, metrics)
    assert [d.verdict for d in back] == ["worse", "worse"]


def printed_by_the_command(folder, *arguments: str) -> list[tuple[float, float, float, float | None]]:
    """Return what the command's table says of each system: score, mean, half of the interval, p."""
    command = [sys.executable, "-m", "sacrebleu", "ref", "-i", "base", "better", "third", "-f", "text", "-w", "4"]
    done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, check=True, text=True)
    number = r"(\d+\.\d{4})"
    scores = re.findall(rf"{number} \({number} ± {number}\)", done.stdout)
    p_values = [None, *map(float, re.findall(rf"\(p = {number}\)", done.stdout))]
    return [(float(a), float(b), float(c), p) for (a, b, c), p in zip(scores, p_values, strict=True)]


@pytest.mark.parametrize(
    ("metric", "arguments"),
    [
        (Bleu(lowercase=False, tokenize="13a"), "-m bleu"),
        (Bleu(lowercase=True, tokenize="13a"), "-m bleu -lc"),
        (ChrF(word_order=0, lowercase=False), "-m chrf"),
        (ChrF(word_order=2, lowercase=False), "-m chrf --chrf-word-order 2"),
        (Ter(lowercase=True), "-m ter"),
    ],
    ids=lambda value: value.name if isinstance(value, Metric) else "",
)
def test_what_is_told_is_what_the_command_prints(files, hypotheses, better, third, references, metric, arguments):
    systems = {"base": hypotheses, "better": better, "third": third}
    printed = printed_by_the_command(files, *arguments.split(), "--paired-bs", "--paired-bs-n", "200")
    found = compare(systems, references, [metric], Bootstrap(200), "test", None, None, 0)
    for row, (value, mean, half, _) in zip(found.rows, printed, strict=True):
        [score] = row.scores
        assert score.value == pytest.approx(value, abs=6e-5)
        assert (score.low + score.high) / 2 == pytest.approx(mean, abs=6e-5)
        assert (score.high - score.low) / 2 == pytest.approx(half, abs=6e-5)
    expected = [p for *_, p in printed if p is not None]
    assert [d.p_value for d in found.differences] == pytest.approx(expected, abs=6e-5)


def test_one_system_is_no_comparison(hypotheses, references):
    with pytest.raises(UserError, match="at least 2 systems"):
        Bootstrap(50).compare({"a": hypotheses}, references, [BLEU])


def test_counts_that_differ_are_named(hypotheses, references):
    with pytest.raises(UserError, match="system b: there are 35 hypotheses but 36 references"):
        Randomization(50).compare({"a": hypotheses, "b": hypotheses[1:]}, references, [BLEU])


def test_no_samples():
    with pytest.raises(UserError, match="not 0"):
        Bootstrap(0)
