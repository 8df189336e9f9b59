import itertools

import numpy as np
import pytest
import torch

from transformer.monitoring.figure import to_png
from transformer.monitoring.heatmap import draw_heads, draw_heatmap, mean_heads

SRC = ["▁two", "▁dogs", "▁<b>", "$x_1$"]
TGT = ["▁zwei", "漢", "▁Hunde"]
N_LAYERS, N_HEADS = 2, 5


@pytest.fixture
def weights():
    scores = torch.rand(N_LAYERS, N_HEADS, len(TGT), len(SRC), generator=torch.Generator().manual_seed(1))
    return scores / scores.sum(-1, keepdim=True)


def labels(ticks):
    return [label.get_text() for label in ticks]


def test_labels_stand_at_their_side_and_weights_in_their_cells(weights):
    figure = draw_heatmap(weights[0, 0], SRC, TGT, "title")
    axes = figure.axes[0]
    assert labels(axes.get_xticklabels()) == SRC
    assert labels(axes.get_yticklabels()) == TGT
    np.testing.assert_allclose(axes.images[0].get_array(), weights[0, 0], rtol=1e-6)
    assert axes.yaxis_inverted()  # the first target token is on top


def test_colours_run_from_zero_to_the_largest_weight(weights):
    image = draw_heatmap(weights[0, 0], SRC, TGT, "title").axes[0].images[0]
    assert image.get_clim() == (0.0, pytest.approx(float(weights[0, 0].max())))
    assert draw_heatmap(np.zeros((3, 4)), SRC, TGT, "title").axes[0].images[0].get_clim() == (0.0, 1.0)


def test_the_grid_has_every_head_of_every_layer_on_one_scale(weights):
    figure = draw_heads(weights, SRC, TGT, "title")
    panels = figure.axes[:-1]
    assert [axes.get_xlabel() for axes in panels] == [
        f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2, 3, 4, 5)
    ]
    np.testing.assert_allclose(panels[7].images[0].get_array(), weights[1, 2], rtol=1e-6)
    assert len({axes.images[0].get_clim() for axes in panels}) == 1
    assert labels(panels[0].get_yticklabels()) == TGT
    assert labels(panels[1].get_yticklabels()) == []
    assert labels(panels[5].get_xticklabels()) == []


def test_mean_over_layers_and_heads(weights):
    mean = mean_heads(weights)
    assert mean.shape == (len(TGT), len(SRC))
    np.testing.assert_allclose(mean[1, 3], float(weights[:, :, 1, 3].mean()), rtol=1e-6)
    np.testing.assert_allclose(mean.sum(-1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4, 1), (12,), (3, 0)])
def test_a_shape_that_does_not_fit_is_refused_with_both(shape):
    with pytest.raises(ValueError, match=rf"shape \({shape[0]},.*3 target and 4 source"):
        draw_heatmap(np.zeros(shape), SRC, TGT, "title")


def test_the_picture_is_drawn_without_a_warning_and_is_the_same_twice(weights):
    pictures = [to_png(draw_heatmap(weights[0, 0], SRC, TGT, "a $title_")) for _ in range(2)]
    assert pictures[0] == pictures[1]
    assert pictures[0] != to_png(draw_heatmap(weights[0, 1], SRC, TGT, "a $title_"))


def test_a_long_sentence_does_not_make_a_giant_picture():
    tokens = [str(n) for n in range(150)]
    width, height = draw_heatmap(np.eye(150), tokens, tokens, "long").get_size_inches()
    assert max(width, height) < 28


@pytest.mark.parametrize("n", [3, 40, 150])
def test_labels_next_to_each_other_do_not_overlap(n):
    tokens = [f"{i}" for i in range(n)]
    figure = draw_heatmap(np.eye(n), tokens, tokens, "long")
    to_png(figure)  # lays it out
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(above.y0 >= below.y1 - 0.5 for above, below in itertools.pairwise(boxes))


@pytest.mark.parametrize("n_tokens", [1, 12])
def test_captions_of_heads_do_not_overlap(n_tokens):
    tokens = ["▁a"] * n_tokens
    figure = draw_heads(np.ones((2, 8, n_tokens, n_tokens)), tokens, tokens, "short")
    to_png(figure)
    *panels, bar = figure.axes
    boxes = [axes.xaxis.label.get_window_extent() for axes in panels[:8]]
    rights = [box.x0 for box in boxes[1:]] + [bar.get_window_extent().x0]
    assert all(box.x1 < right for box, right in zip(boxes, rights, strict=True))
