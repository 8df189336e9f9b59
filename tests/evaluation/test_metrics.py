import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from transformer.error import UserError
from transformer.evaluation.metrics import Bleu, ChrF, Metric, Ter


@pytest.fixture(scope="module")
def sacrebleu_command(tmp_path_factory, hypotheses, references):
    """Return a function: command line arguments -> what `sacrebleu` prints, read from its JSON."""
    folder = tmp_path_factory.mktemp("golden")
    (folder / "hyp").write_text("".join(line + "\n" for line in hypotheses), encoding="utf-8")
    (folder / "ref").write_text("".join(line + "\n" for line in references), encoding="utf-8")

    def run(*arguments: str) -> list[dict]:
        command = [sys.executable, "-m", "sacrebleu", "ref", "-i", "hyp", "-w", "8", "-f", "json", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True)
        printed = json.loads(done.stdout)
        return printed if isinstance(printed, list) else [printed]

    return run


def assert_same(metric: Metric, name: str, printed: dict, hypotheses, references) -> None:
    score = metric.score(hypotheses, references, n_bootstrap=0)
    assert score.name == metric.name == name
    assert score.value == pytest.approx(printed["score"], abs=1e-7)
    assert score.signature == printed["signature"]
    assert score.low is None
    assert score.high is None


def test_cased_scores_are_those_of_the_command_line(sacrebleu_command, hypotheses, references):
    printed = sacrebleu_command("-m", "bleu", "chrf", "ter", "--ter-case-sensitive")
    metrics = [Bleu(lowercase=False, tokenize="13a"), ChrF(word_order=0, lowercase=False), Ter(lowercase=False)]
    for metric, name, expected in zip(metrics, ["BLEU", "chrF2", "TER"], printed, strict=True):
        assert 5 < expected["score"] < 95
        assert_same(metric, name, expected, hypotheses, references)


def test_lowercased_scores_are_those_of_the_command_line(sacrebleu_command, hypotheses, references):
    printed = sacrebleu_command("-lc", "--chrf-lowercase", "-m", "bleu", "chrf", "ter")
    metrics = [Bleu(lowercase=True, tokenize="13a"), ChrF(word_order=0, lowercase=True), Ter(lowercase=True)]
    for metric, name, expected in zip(metrics, ["BLEU-lc", "chrF2-lc", "TER-lc"], printed, strict=True):
        assert_same(metric, name, expected, hypotheses, references)


def test_chrf_plus_plus_and_another_tokeniser(sacrebleu_command, hypotheses, references):
    printed = sacrebleu_command("-m", "chrf", "--chrf-word-order", "2")
    assert_same(ChrF(word_order=2, lowercase=False), "chrF2++", printed[0], hypotheses, references)
    printed = sacrebleu_command("-m", "bleu", "--tokenize", "intl")
    assert_same(Bleu(lowercase=False, tokenize="intl"), "BLEU-intl", printed[0], hypotheses, references)


def test_interval_is_that_of_the_command_line(sacrebleu_command, hypotheses, references):
    printed = sacrebleu_command("-m", "bleu", "chrf", "ter", "--confidence", "--confidence-n", "200")
    metrics = [Bleu(lowercase=False, tokenize="13a"), ChrF(word_order=0, lowercase=False), Ter(lowercase=True)]
    for metric, expected in zip(metrics, printed, strict=True):
        score = metric.score(hypotheses, references, n_bootstrap=200)
        assert score.low is not None
        assert score.high is not None
        assert (score.low + score.high) / 2 == pytest.approx(expected["confidence_mean"], abs=1e-4)
        assert (score.high - score.low) / 2 == pytest.approx(expected["confidence_var"], abs=1e-4)
        assert score.signature == expected["signature"]
        assert "bs:200" in score.signature


def test_an_interval_leaves_no_trace_in_the_next_signature(hypotheses, references):
    metric = Bleu(lowercase=False, tokenize="13a")
    before = metric.score(hypotheses, references, n_bootstrap=0)
    metric.score(hypotheses, references, n_bootstrap=10)
    assert metric.score(hypotheses, references, n_bootstrap=0) == before


def test_a_score_can_be_written_as_json(hypotheses, references):
    for metric in (Bleu(lowercase=False, tokenize="13a"), ChrF(word_order=2, lowercase=True), Ter(lowercase=True)):
        score = metric.score(hypotheses, references, n_bootstrap=10)
        assert json.loads(json.dumps(asdict(score))) == asdict(score)


def test_a_perfect_translation(references):
    for metric, best in [
        (Bleu(lowercase=False, tokenize="13a"), 100.0),
        (ChrF(word_order=2, lowercase=False), 100.0),
        (Ter(lowercase=False), 0.0),
    ]:
        assert metric.score(references, references, n_bootstrap=0).value == pytest.approx(best)
        assert metric.higher_is_better == (best == 100.0)


def test_a_translation_of_nothing_scores_zero_with_an_interval(references):
    score = Bleu(lowercase=False, tokenize="13a").score([""] * len(references), references, n_bootstrap=20)
    assert (score.value, score.low, score.high) == (0.0, 0.0, 0.0)


def test_lowercase_ignores_case_and_nothing_else():
    hypothesis, reference = ["ein hund läuft über gras"], ["EIN HUND läuft über Gras"]
    assert Bleu(lowercase=True, tokenize="13a").score(hypothesis, reference, n_bootstrap=0).value == pytest.approx(100)
    assert Bleu(lowercase=False, tokenize="13a").score(hypothesis, reference, n_bootstrap=0).value < 50


def test_sentence_scores_are_those_of_the_command_line(hypotheses, references, tmp_path):
    # Also lines too short for four-grams, where a sentence is scored otherwise than a corpus.
    hypotheses, references = [*hypotheses, "Ein Hund", "ja"], [*references, "Ein Hund bellt", "ja"]
    (tmp_path / "ref").write_text("".join(line + "\n" for line in references), encoding="utf-8")
    (tmp_path / "hyp").write_text("".join(line + "\n" for line in hypotheses), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", "ref", "-i", "hyp", "-sl", "-b", "-w", "6"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True)
    scores = Bleu(lowercase=False, tokenize="13a").sentence_scores(hypotheses, references)
    assert scores == pytest.approx([float(line) for line in done.stdout.split()], abs=1e-5)
    assert scores[-1] == pytest.approx(100)


def test_counts_that_differ_are_named(references):
    with pytest.raises(UserError, match=r"35 hypotheses but 36 references"):
        Bleu(lowercase=False, tokenize="13a").score(references[:-1], references, n_bootstrap=0)
    with pytest.raises(UserError, match=r"36 hypotheses but 35 references"):
        ChrF(word_order=0, lowercase=False).sentence_scores(references, references[:-1])


def test_nothing_to_score():
    with pytest.raises(UserError, match="nothing to score"):
        Ter(lowercase=False).score([], [], n_bootstrap=0)


@pytest.mark.parametrize("n_bootstrap", [-1, 1])
def test_an_interval_from_one_resample_is_refused(n_bootstrap, references):
    with pytest.raises(UserError, match=f"at least 2 resamples, not {n_bootstrap}"):
        Bleu(lowercase=False, tokenize="13a").score(references, references, n_bootstrap=n_bootstrap)


def test_unknown_settings_are_refused():
    with pytest.raises(UserError, match=r"'13b'.*13a"):
        Bleu(lowercase=False, tokenize="13b")
    with pytest.raises(UserError, match="not -1"):
        ChrF(word_order=-1, lowercase=False)


@pytest.mark.parametrize("metric", [Ter(lowercase=True), ChrF(2, lowercase=False), Bleu(False, "13a")])
def test_an_interval_where_some_resamples_have_no_reference_word(metric: Metric) -> None:
    score = metric.score(["ein mann geht .", "ja", ""], ["ein mann läuft .", "", ""], n_bootstrap=50)
    assert score.low is not None
    assert score.high is not None
    assert score.low <= score.value <= score.high or metric.name.startswith("TER")


def test_an_interval_where_some_resamples_score_nothing() -> None:
    score = ChrF(word_order=0, lowercase=False).score(["ab", "", ""], ["ab", "cd", "ef"], n_bootstrap=50)
    assert score.low is not None
    assert score.high is not None
    assert score.signature.startswith("nrefs:1|bs:50|seed:12345|case:mixed")
