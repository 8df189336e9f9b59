"""A finished run as its user sees it: a real TensorBoard in a real browser. Skipped where no Chromium is installed."""

import re
import subprocess
import sys

import pytest

from transformer.monitoring.tensorboard import TensorBoard


@pytest.fixture(scope="module")
def address(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    served = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0", "--reload_interval", "1"],
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in served.stderr:
        if found := re.search(r"at (http://\S+?)/? ", line):
            break
    yield folder, found[1].replace("localhost", "127.0.0.1")
    served.terminate()
    served.wait()
    served.stderr.close()


@pytest.fixture
def page(address, browser, tell):
    folder, url = address
    if not any(folder.iterdir()):
        board = TensorBoard(str(folder / "small_seed1"), 4)
        tell([board], 0, 30)
        board.on_end()

    def show(tab):
        browser.open(f"{url}/#{tab}")
        return browser

    return show


def test_scalars_are_shown_under_their_tags(page):
    text = page("timeseries").wait_for("small_seed1", "best", "train", "valid")
    assert "No dashboards are active" not in text
    page("scalars&tagFilter=valid").wait_for("valid/loss", "valid/perplexity", "valid/bleu", "best/valid_loss")
    page("scalars&tagFilter=train|optim").wait_for("train/loss", "train/gradient_norm", "optim/learning_rate")


def test_samples_are_a_table_with_their_text_unchanged(page):
    browser = page("text")
    browser.wait_for("samples/translations", "two dogs | play", "zwei *hunde* spielen <unk>", "hypothesis", "step 30")


def test_training_and_validation_are_in_one_chart(page):
    page("custom_scalars").wait_for("training and validation", "loss", "perplexity", "Matches (2)")


def test_settings_stand_beside_the_best_results(page):
    text = page("hparams").wait_for("small_seed1", "model.d_model", "n_parameters", "best/bleu", "30.000")
    assert "128.00" in text
