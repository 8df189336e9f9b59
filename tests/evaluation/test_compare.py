import json

import pytest

from transformer.error import UserError
from transformer.evaluation.bucket import word_counts
from transformer.evaluation.compare import compare
from transformer.evaluation.metrics import Bleu, ChrF
from transformer.evaluation.significance import Bootstrap

METRICS = [Bleu(lowercase=False, tokenize="13a"), ChrF(word_order=0, lowercase=False)]


@pytest.fixture(scope="module")
def comparison(hypotheses, better, references):
    systems = {"base": hypotheses, "new": better, "same": hypotheses}
    return compare(systems, references, METRICS, Bootstrap(50), "test", None, word_counts(references[:6]), 2)


def test_scores_are_those_of_the_metrics(comparison, hypotheses, better, references):
    assert [row.system for row in comparison.rows] == ["base", "new", "same"]
    assert comparison.rows[1].scores == tuple(metric.score(better, references, n_bootstrap=50) for metric in METRICS)
    assert comparison.rows[0].n_sentences == len(references)


def test_differences_are_those_of_the_test(comparison, hypotheses, better, references):
    assert [(d.metric, d.system) for d in comparison.differences] == [
        (metric, system) for metric in ("BLEU", "chrF2") for system in ("new", "same")
    ]
    expected = Bootstrap(50).compare({"base": hypotheses, "new": better}, references, METRICS[:1])
    assert comparison.differences[0] == expected[0]


def test_examples_are_of_the_right_system(comparison, better):
    new, same = comparison.examples
    assert (new.system, new.baseline, new.metric) == ("new", "base", "BLEU")
    assert len(new.gains) == 2
    assert all(example.system == better[example.line - 1] for example in new.gains)
    assert same.gains == same.losses == ()


def test_breakdowns(comparison, hypotheses, references):
    assert [breakdown.metric for breakdown in comparison.breakdowns] == ["BLEU", "BLEU", "F1"]
    for breakdown in comparison.breakdowns[:2]:
        assert sum(part.n for part in breakdown.parts) == len(references)
    without = compare(
        {"a": hypotheses, "b": hypotheses}, references, METRICS[:1], Bootstrap(5), "test", references, None, 1
    )
    assert [breakdown.title for breakdown in without.breakdowns] == [
        "by words of the reference",
        "by frequency of the reference's rarest word in the references",
        "by frequency of the word in the references",
    ]
    assert comparison.breakdowns[2].title == "by frequency of the word in the training text"
    assert without.sources == tuple(references)


def test_text_and_data(comparison):
    text = comparison.text()
    assert max(len(line) for line in text.splitlines() if "version:" not in line) <= 80
    for expected in ("paired bootstrap, 50 samples, against base", "BLEU by words of the reference", "F1 by frequency"):
        assert expected in text
    assert text.startswith("on test\n")
    assert text.count("BLEU: nrefs:1|bs:50|seed:12345|") == 1  # scores and the test have the same
    data = json.loads(json.dumps(comparison.data()))
    assert data["scores"][1]["scores"]["BLEU"]["value"] == comparison.rows[1].scores[0].value
    assert data["differences"][0]["p_value"] == comparison.differences[0].p_value
    assert data["differences"][0]["difference"] == comparison.differences[0].difference
    assert data["test"] == {"name": "paired bootstrap", "n_samples": 50}


def test_what_does_not_fit_is_refused(hypotheses, references):
    systems = {"a": hypotheses, "b": hypotheses}
    with pytest.raises(UserError, match="35 source lines but 36 references"):
        compare(systems, references, METRICS, Bootstrap(5), "test", references[1:], None, 1)
    with pytest.raises(UserError, match="at least 1 metric"):
        compare(systems, references, [], Bootstrap(5), "test", None, None, 1)
    with pytest.raises(UserError, match="at least 2 systems"):
        compare({"a": hypotheses}, references, METRICS, Bootstrap(5), "test", None, None, 1)
