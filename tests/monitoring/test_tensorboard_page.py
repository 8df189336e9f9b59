"""A real, finished run as its user sees it: a real TensorBoard in a real browser. Skipped without a Chromium.

`wait_for` fails a test unless every text it is given comes to stand on the page.
"""

import pytest


@pytest.fixture(scope="module")
def page(looked_at, browser, screenshots):
    with screenshots.serving(looked_at / "results") as address:

        def show(tab):
            browser.open(f"{address}/#{tab}")
            return browser

        yield show


def test_scalars_are_shown_under_their_tags(page):
    text = page("timeseries").wait_for("run", "best", "train", "valid", "optim", "speed")
    assert "No dashboards are active" not in text
    quality = ("valid/loss", "valid/perplexity", "valid/accuracy", "valid/bleu", "valid/chrf", "best/valid_loss")
    page("scalars&tagFilter=valid").wait_for(*quality)
    page("scalars&tagFilter=train|optim").wait_for(
        *("train/loss", "train/perplexity", "train/accuracy"),
        *("optim/gradient_norm", "optim/learning_rate", "optim/clipped"),
    )
    page("scalars&tagFilter=speed").wait_for(
        "speed/tokens_per_second", "speed/padding_efficiency", "speed/peak_memory_mib"
    )


def test_samples_are_a_table_beside_the_config(page, looked_at, tiny):
    (source,) = (word.partition("=")[2] for word in tiny if word.startswith("data.validation.src"))
    with open(source, encoding="utf-8") as file:
        line = file.readline().strip()
    page("text").wait_for("samples/translations", "source", "hypothesis", "reference", line, "step 16", "run/config")


def test_images_of_the_attention_are_loaded(page):
    browser = page("images")
    browser.wait_for("attention/sample_1", "attention/sample_2")
    assert min(browser.wait_for_pictures(2)) > 100


def test_settings_stand_beside_the_best_results(page):
    browser = page("hparams")
    browser.wait_for("Trial ID", "run", "model.d_model", "n_parameters", "best/bleu", "best/chrf", "Bucket", "128.00")


def test_training_and_validation_are_in_one_chart(page):
    page("custom_scalars").wait_for("training and validation", "loss", "perplexity", "translations", "Matches (2)")


def test_weights_and_gradients_have_histograms(page):
    page("histograms&tagFilter=decoder_norm/bias").wait_for("weights/decoder_norm/bias", "gradients/decoder_norm/bias")


def test_the_graph_is_drawn(page):
    page("graphs").wait_for("Main Graph", "Transformer", "1×2×290")  # noqa: RUF001 (as TensorBoard writes it)


def test_the_projector_has_both_embeddings(page):
    page("projector").wait_for("2 tensors found", "source", "Points: 290", "Dimension: 16")
