import math

import pytest
import torch
from torch import nn

from transformer.training.optimizer import clip_gradients, parameter_groups


def test_matrices_decay_and_vectors_do_not(toy):
    model = toy.model()
    matrices, vectors = parameter_groups(model)
    assert vectors["weight_decay"] == 0.0
    assert "weight_decay" not in matrices
    assert {p.dim() for p in matrices["params"]} == {2}
    assert {p.dim() for p in vectors["params"]} == {1}
    together = [id(p) for p in (*matrices["params"], *vectors["params"])]
    assert sorted(together) == sorted(id(p) for p in model.parameters())
    optimizer = torch.optim.AdamW([matrices, vectors], lr=0.1, weight_decay=0.2)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]


def test_what_is_frozen_is_left_out():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    model[0].requires_grad_(False)
    assert [len(group["params"]) for group in parameter_groups(model)] == [1, 1]
    assert len(parameter_groups(nn.Linear(2, 3, bias=False))) == 1


@pytest.mark.parametrize(("clip_norm", "factor"), [(None, 1.0), (1.3, 0.1), (13.0, 1.0), (20.0, 1.0)])
def test_clipping_scales_the_joint_norm_and_tells_it_as_it_was(clip_norm, factor):
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([[12.0]])
    assert float(clip_gradients(parameters, clip_norm)) == 13.0
    assert parameters[0].grad.tolist() == pytest.approx([3.0 * factor, 4.0 * factor], rel=1e-5)
    assert parameters[1].grad.tolist() == [pytest.approx([12.0 * factor], rel=1e-5)]


@pytest.mark.parametrize("wrong", [math.inf, math.nan])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_shows_in_the_norm(wrong, clip_norm):
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, wrong])
    assert not math.isfinite(float(clip_gradients([parameter], clip_norm)))
