import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.evaluation.metrics import Score
from transformer.evaluation.report import Row, as_data, cell, markdown_table, text_table

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
LONG_SIGNATURE = "nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
PLAIN = Score("BLEU", 41.0234, SIGNATURE, None, None)
WITH_INTERVAL = Score("BLEU-lc", 42.5, LONG_SIGNATURE, 40.75, 44.254)
CHRF = Score("chrF2", 65.4321, "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0", None, None)


def test_cells():
    assert cell(PLAIN) == "41.02"
    assert cell(WITH_INTERVAL) == "42.50 [40.75, 44.25]"
    assert cell(None) == "-"


def test_text_table():
    rows = [Row("tiny", "test_2016_flickr", 1000, (PLAIN, CHRF)), Row("small", "test_2016_flickr", 1000, (PLAIN,))]
    assert text_table(rows) == (
        "system                  sentences   BLEU  chrF2\n"
        "tiny test_2016_flickr        1000  41.02  65.43\n"
        "small test_2016_flickr       1000  41.02      -\n"
        "\n"
        f"BLEU: {SIGNATURE}\n"
        f"chrF2: {CHRF.signature}\n"
    )


def test_a_signature_stands_on_one_line_so_that_it_can_be_copied():
    table = text_table([Row("tiny", "test", 1000, (WITH_INTERVAL,))])
    assert table.endswith(f"\n\nBLEU-lc: {LONG_SIGNATURE}\n")


def test_a_long_label_is_not_cut():
    name = "a_system_with_a_very_long_name_that_says_all_of_its_settings_lr0.005_seed42"
    lines = text_table([Row(name, "test", 7, (PLAIN,)), Row("b", "test", 8, (PLAIN,))]).splitlines()
    assert lines[1] == f"{name} test"
    assert lines[2].split() == ["7", "41.02"]
    assert lines[3].split() == ["b", "test", "8", "41.02"]


def test_different_signatures_of_one_metric_are_both_told_and_whose_they_are():
    other = Score("BLEU", 40.0, SIGNATURE.replace("13a", "intl"), None, None)
    by_system = [Row("a", "test", 9, (PLAIN, CHRF)), Row("b", "test", 9, (other, CHRF)), Row("b", "dev", 9, (other,))]
    lines = markdown_table(by_system).splitlines()[-3:]
    assert lines == [
        f"- BLEU, a test: `{PLAIN.signature}`",
        f"- BLEU, b test, b dev: `{other.signature}`",
        f"- chrF2: `{CHRF.signature}`",
    ]
    by_split = [Row("a", "test", 9, (PLAIN,)), Row("b", "test", 9, (PLAIN,)), Row("b", "dev", 9, (other,))]
    lines = text_table(by_split).splitlines()[-2:]
    assert lines == [f"BLEU, test: {PLAIN.signature}", f"BLEU, dev: {other.signature}"]


def test_markdown_table():
    table = markdown_table([Row("a|b", "test", 1000, (PLAIN, WITH_INTERVAL))])
    assert table.splitlines()[:3] == [
        "| system | split | sentences | BLEU | BLEU-lc |",
        "|---|---|---:|---:|---:|",
        "| a\\|b | test | 1000 | 41.02 | 42.50 [40.75, 44.25] |",
    ]
    assert f"- BLEU: `{SIGNATURE}`" in table


def test_data_survives_json_unrounded():
    data = json.loads(json.dumps(as_data([Row("tiny", "test", 1000, (PLAIN, WITH_INTERVAL))])))
    assert data == [
        {
            "system": "tiny",
            "split": "test",
            "n_sentences": 1000,
            "scores": {
                "BLEU": {"value": 41.0234, "low": None, "high": None, "signature": SIGNATURE},
                "BLEU-lc": {"value": 42.5, "low": 40.75, "high": 44.254, "signature": LONG_SIGNATURE},
            },
        }
    ]


@pytest.mark.parametrize("rows", [[], [Row("tiny", "test", 3, ())]])
def test_tables_without_scores(rows):
    assert "system" in text_table(rows)
    assert markdown_table(rows).startswith("| system |")


names = st.text(alphabet="abcdefghij_-.", min_size=1, max_size=30)
scores = st.builds(
    Score,
    st.sampled_from(["BLEU", "BLEU-lc", "chrF2", "chrF2++", "TER-lc"]),
    st.floats(0, 100),
    st.just(LONG_SIGNATURE),
    st.floats(0, 100),
    st.floats(0, 100),
)
rows_of_scores = st.lists(
    st.builds(Row, names, names, st.integers(1, 10**6), st.lists(scores, unique_by=lambda s: s.name).map(tuple)),
    min_size=1,
    max_size=4,
)


@given(rows_of_scores)
def test_text_tables_fit_80_columns_and_lose_nothing(rows):
    table = text_table(rows)
    assert max(len(line) for line in table.splitlines() if LONG_SIGNATURE not in line) <= 80
    for row in rows:
        assert f"{row.system} {row.split}" in table
        for score in row.scores:
            assert cell(score) in table
