from html.parser import HTMLParser

import pytest

from transformer.evaluation.bucket import Breakdown, Part, word_counts
from transformer.evaluation.compare import compare
from transformer.evaluation.html import _breakdown, bars, marked, page
from transformer.evaluation.metrics import Bleu, Ter
from transformer.evaluation.significance import Bootstrap

VOID = {"meta"}


class Checker(HTMLParser):
    """Notes what a browser would load, and whether every tag is closed in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "srcset")]
        if tag not in VOID and tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def html(hypotheses, better, references):
    systems = {"base <1>": hypotheses, 'new & "x"': better}
    nasty = ["<script>alert(1)</script> & more"] * len(references)
    counts = word_counts(references[:6])
    return page(
        compare(
            systems, references, [Bleu(False, "13a")], Bootstrap(20), "test", nasty, counts, n_examples=len(references)
        )
    )


def test_the_page_is_whole_and_loads_nothing(html):
    checker = checked(html)
    assert checker.loads == []
    assert not {"script", "link", "img", "iframe"} & set(checker.tags)
    assert "url(" not in html
    assert "@import" not in html


def test_text_from_outside_is_escaped(html):
    text = "".join(checked(html).text)
    assert "<script>alert(1)</script> & more" in text
    assert 'new & "x"' in text
    assert "<script" not in html


def test_the_page_tells_what_the_comparison_says(html, better, references):
    text = " ".join(checked(html).text)
    assert "paired bootstrap, 20 samples" in text
    assert "BLEU by words of the reference" in text
    assert "bs:20|seed:12345" in text
    assert "line 3" in text


def test_the_verdict_comes_first_and_in_words(hypotheses, better, references):
    systems = {"base": hypotheses, "new": better, "copy": hypotheses}
    metrics = [Bleu(False, "13a"), Ter(True)]
    found = page(compare(systems, references, metrics, Bootstrap(100), "test", None, None, 1))
    text = " ".join("".join(checked(found).text).split())
    opening = text[text.index("36 lines") : text.index("Scores")]
    assert opening.startswith("36 lines. Against base, the baseline:")
    assert "new: better by BLEU, TER-lc" in opening
    assert "copy: no clear difference by BLEU, TER-lc" in opening
    assert "worse" not in opening
    assert "TER-lc (lower is better)" in text
    assert "BLEU (lower is better)" not in text
    assert text.count("p = 1.0000") == 2
    assert text.count("BLEU: nrefs:1") == 1


def test_a_part_of_few_lines_is_grey_and_the_highest_is_bold():
    parts = (Part("< 10", 40, {"a": 40.0, "b": 20.0}), Part("10-14", 40, {"a": 1.0, "b": 1.0}))
    told = _breakdown(Breakdown("by length", "lines", "BLEU", parts))
    assert (told.count("<b>"), "<b>40.00</b>" in told) == (1, True)
    assert "few" not in told
    few = (Part("< 10", 29, {"a": 40.0, "b": 20.0}),)
    assert '<tr class="few">' in _breakdown(Breakdown("by length", "lines", "BLEU", few))


def test_marked_words_are_those_that_the_reference_lacks():
    assert marked("ein <b> hund  rennt", "ein hund läuft", "del") == ("ein <del>&lt;b&gt;</del> hund <del>rennt</del>")
    assert marked("", "ein", "del") == ""
    assert marked("a <b> c d", "a x c d e", "mark") == "a <mark>&lt;b&gt;</mark> c d"
    assert marked("same words", "same words", "mark") == "same words"


def test_bars_are_as_high_as_the_values():
    parts = (Part("< 10", 5, {"a": 40.0, "b": 20.0}), Part(">= 10", 7, {"a": 0.0, "b": 10.0}))
    svg = bars(Breakdown("by length", "lines", "BLEU", parts))
    checked(svg)
    heights = [float(part.split('"')[0]) for part in svg.split("<rect")[1:] for part in [part.split('height="')[1]]]
    assert heights == [150.0, 75.0, 0.0, 37.5]
    assert "&lt; 10" in svg
