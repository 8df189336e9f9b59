import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from transformer.evaluation.metrics import Score
from transformer.evaluation.report import Row
from transformer.monitoring.record import Record
from transformer.monitoring.report import Content, Report, report_page, versions
from transformer.training.observer import Look

VOID = {"meta", "img", "br", "path", "use"}


class Page(HTMLParser):
    """Text, tags and addresses of a page; fails where tags do not close in order."""

    def __init__(self, html):
        super().__init__()
        self.text, self.open, self.tags, self.addresses = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def __contains__(self, words):
        return words in " ".join(" ".join(self.text).split())


@pytest.fixture
def content(make_epoch):
    signature = "nrefs:1|case:lc|tok:13a|version:2.6.0"
    return Content(
        name="small <1>",
        config={
            "model": {"norm": "<b>post", "d_model": 128},
            "data": {},
            "betas": [0.9, 0.98],
            "tie": True,
            "cut": None,
        },
        n_parameters=2_613_248,
        epochs=[make_epoch(1), make_epoch(2), dataclasses.replace(make_epoch(3), best=False)],
        scores=[Row("small", "test_2016", 1_000, (Score("BLEU-lc", 41.02, signature, 39.28, 42.76),))],
        samples=[("two <unk> dogs", "zwei <unk> Hunde", "zwei kleine Hunde")],
        pictures=[("attention & more", b"\x89PNG")],
    )


def test_everything_is_on_the_page_and_nothing_is_taken_for_markup(content):
    page = Page(report_page(content))
    for words in (
        "small <1>",
        "2,613,248",
        "20.00",
        "case:lc|tok:13a|version:2.6.0",
        "41.02 [39.28, 42.76]",
        "test_2016",
    ):
        assert words in page
    for words in (
        "two <unk> dogs",
        "zwei <unk> Hunde",
        "attention & more",
        "norm: <b>post",
        "betas: [0.9, 0.98] tie: true cut: null",
    ):
        assert words in page
    assert "unk" not in page.tags


def test_the_page_loads_nothing(content):
    page = Page(report_page(content))
    assert {"link", "script", "iframe"}.isdisjoint(page.tags)
    assert page.addresses
    assert all(address.startswith(("data:", "#")) for address in page.addresses)


def test_curves_are_drawn_into_the_page(content):
    assert "svg" in Page(report_page(content)).tags


def test_the_best_epoch_is_marked_and_heads_the_page(content):
    html = report_page(content)
    assert html.count("<tr class=best>") == 1
    assert "<tr class=best><td>2</td>" in html
    assert "best epoch 2 of 3, step 20" in Page(html)


def test_empty_parts_are_left_out():
    page = Page(report_page(Content(name="new", config={}, n_parameters=None, epochs=[])))
    for title in ("Scores", "Curves", "Translations", "Pictures", "Epochs", "Config"):
        assert title not in page
    assert "Versions" in page


def test_versions_name_python_and_every_package():
    found = versions()
    assert {"Python", "torch", "sacrebleu"} <= set(found)
    assert "not installed" not in (found["torch"], found["sacrebleu"])


def test_a_resumed_run_reports_its_whole_history_when_it_ends(tmp_path, tell):
    folder = str(tmp_path)
    tell([Record(folder), Report(folder)], 0, 40)
    assert not (tmp_path / "report.html").exists()
    report = Report(folder)
    tell([Record(folder), report], 25, 30)
    report.on_end()
    html = (tmp_path / "report.html").read_text()
    assert "best epoch 3 of 3, step 30" in Page(html)
    assert "two dogs | play" in Page(html)
    assert "<td>4</td>" not in html


def test_a_run_that_ends_before_its_first_epoch_writes_no_page(tmp_path, tell):
    report = Report(str(tmp_path))
    report.on_end()
    tell([report], 0, 5)
    report.on_end()
    assert list(tmp_path.iterdir()) == []


def test_the_newest_samples_stay_when_the_last_epoch_has_none(tmp_path, tell, make_epoch):
    report = Report(str(tmp_path))
    tell([report], 0, 20)
    report.on_epoch(dataclasses.replace(make_epoch(3), samples=[]))
    report.on_end()
    page = Page((tmp_path / "report.html").read_text())
    assert "best epoch 3 of 3" in page
    assert "two dogs | play" in page


def test_a_finished_run_started_again_keeps_its_page(tmp_path, tell):
    folder = str(tmp_path)
    report = Report(folder)
    tell([Record(folder), report], 0, 20)
    report.on_end()
    before = (tmp_path / "report.html").read_bytes()
    again = Report(folder)
    tell([again], 20, 20)
    again.on_end()
    again.on_scores([], [])
    assert (tmp_path / "report.html").read_bytes() == before


def test_scored_again_a_finished_run_s_page_keeps_its_pictures(tmp_path, tell, make_epoch):
    folder = str(tmp_path)
    report = Report(folder)
    tell([Record(folder), report], 0, 10)
    report.on_epoch(dataclasses.replace(make_epoch(2), looks=[Look(["a", "&"], ["b"], np.ones((1, 1, 1, 2)))]))
    report.on_end()
    figure = re.search("<figure>.*</figure>", (tmp_path / "report.html").read_text())
    again = Report(folder)
    tell([again], 20, 20)
    again.on_scores([Row("best", "test", 3, (Score("BLEU", 41.0, "tok:13a", None, None),))], [])
    assert figure
    assert figure[0] in (tmp_path / "report.html").read_text()


def test_a_browser_shows_the_page_without_an_error(tmp_path, content, browser):
    (tmp_path / "page.html").write_text(report_page(content), encoding="utf-8")
    browser.open((tmp_path / "page.html").as_uri())
    browser.wait_for("small <1>", "test_2016", "zwei", "Versions")
    width, overflow = browser.evaluate(
        "[document.querySelector('svg').getBoundingClientRect().width,"
        " document.documentElement.scrollWidth - innerWidth]"
    )
    assert width > 600
    assert overflow <= 0
    assert browser.errors == []
