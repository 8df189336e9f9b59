"""Muon beside torch's own and AdamW; every projection apart, however it is stored."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from transformer.model.attention import Merged
from transformer.training.muon import N_ITERATIONS, RMS, Muon, _directions, orthogonalised

THERE = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")


def with_gradients(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


def beside_each_other(model: torch.nn.Module) -> tuple[list[tuple[Tensor, list[Tensor]]], list[tuple[Tensor, Tensor]]]:
    """Copies of the matrices inside the layers, part by part, and of all else, each with what it was copied from."""
    merged = {m.weight: m.n_parts for m in model.modules() if isinstance(m, Merged)}
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        if "layers" in name and parameter.dim() == 2:
            parts = parameter.detach().clone().chunk(merged.get(parameter, 1))
            matrices.append((parameter, [part.contiguous().requires_grad_() for part in parts]))
        else:
            others.append((parameter, parameter.detach().clone().requires_grad_()))
    return matrices, others


def step_beside(toy: Any, n_steps: int) -> list[tuple[Tensor, Tensor]]:
    """Steps of ours, and of torch's two optimizers on copies with the same gradients; returns the weights in pairs."""
    torch.manual_seed(2)
    model = toy.model()
    optimizer = toy.MUON(Muon.groups(model))
    matrices, others = beside_each_other(model)
    theirs = torch.optim.Muon(
        [part for _, parts in matrices for part in parts],
        lr=0.01,
        momentum=0.95,
        weight_decay=0.1,
        adjust_lr_fn="match_rms_adamw",
    )
    groups: list[dict[str, Any]] = [
        {"params": [copy for _, copy in others if copy.dim() > 1]},
        {"params": [copy for _, copy in others if copy.dim() == 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.02, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1)
    for seed in range(n_steps):
        with_gradients(model, seed)
        for parameter, parts in matrices:
            for part, gradient in zip(parts, parameter.grad.chunk(len(parts)), strict=True):
                part.grad = gradient.clone()
        for parameter, copy in others:
            copy.grad = parameter.grad.clone()
        for each in (optimizer, theirs, adamw):
            each.step()
    return [(parameter, torch.cat(parts)) for parameter, parts in matrices] + others


@THERE
def test_a_step_is_torch_s_muon_and_adamw(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same arithmetic: both iterations are held to float32."""
    monkeypatch.setattr("transformer.training.muon.cpu_knows_bfloat16", lambda: False)
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    for ours, theirs in step_beside(toy, n_steps=3):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 6), (6, 9), (32, 128)])
def test_singular_vectors_stay_and_singular_values_become_nearly_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    matrices = torch.randn(3, *shape)
    u, values, vt = torch.linalg.svd(matrices, full_matrices=False)
    made = u.mT @ orthogonalised(matrices, torch.float32) @ vt.mT
    found = made.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(made, torch.diag_embed(found), atol=1e-4, rtol=0)
    due = values / values.norm(dim=1, keepdim=True) > 0.02  # what is smaller than that needs more iterations
    assert bool(((found > 0.6) & (found < 1.25))[due].all())


@THERE
def test_float32_is_torch_s_bfloat16_but_for_its_rounding() -> None:
    from torch.optim._muon import DEFAULT_A, DEFAULT_B, DEFAULT_C, EPS, _zeropower_via_newtonschulz

    torch.manual_seed(1)
    matrices = torch.randn(4, 64, 96)
    exact = orthogonalised(matrices, torch.float32)
    coefficients = (DEFAULT_A, DEFAULT_B, DEFAULT_C)
    theirs = torch.stack([_zeropower_via_newtonschulz(m, coefficients, N_ITERATIONS, EPS) for m in matrices]).float()
    off = [float((found - exact).norm() / exact.norm()) for found in (theirs, orthogonalised(matrices, torch.bfloat16))]
    assert all(1e-4 < one < 0.03 for one in off)


@pytest.mark.parametrize(("known", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_taken_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, known: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr("transformer.training.muon.cpu_knows_bfloat16", lambda: known)
    matrices = torch.randn(3, 8, 12)
    assert torch.equal(_directions(matrices), orthogonalised(matrices, dtype))


def test_a_gradient_of_zero_moves_nothing() -> None:
    assert not orthogonalised(torch.zeros(2, 3, 4), torch.float32).any()


def test_each_matrix_inside_the_layers_is_muon_s_and_all_else_adamw_s(toy: Any) -> None:
    model = toy.model()
    names = {id(p): name for name, p in model.named_parameters()}
    groups = Muon.groups(model)
    told = [
        (group.get("n_parts"), group.get("weight_decay"), {names[id(p)] for p in group["params"]}) for group in groups
    ]  # type: ignore[attr-defined]
    assert [told_by[:2] for told_by in told] == [(1, None), (2, None), (3, None), (None, None), (None, 0.0)]
    one, two, three, tables, vectors = (found for _, _, found in told)
    assert two == {"decoder_layers.0.cross_attention.key_value.weight"}
    assert three == {f"{side}_layers.0.self_attention.qkv.weight" for side in ("encoder", "decoder")}
    assert "encoder_layers.0.feed_forward.inner.weight" in one
    assert tables == {"src_embedding.tokens.weight"}
    assert all(name.endswith(("bias", "norm.weight")) for name in vectors)
    assert one | two | three | tables | vectors == set(names.values())


def test_what_is_frozen_is_left_out(toy: Any) -> None:
    model = toy.model()
    model.encoder_layers.requires_grad_(False)
    assert sum(p.numel() for g in Muon.groups(model) for p in g["params"]) == model.n_parameters  # type: ignore[attr-defined]


def test_matrices_alone_may_be_trained(toy: Any) -> None:
    model = toy.model()
    merged = model.encoder_layers[0].self_attention.qkv.weight
    for parameter in model.parameters():
        parameter.requires_grad_(parameter is merged)
    optimizer = toy.MUON(Muon.groups(model))
    before = merged.detach().clone()
    merged.grad = torch.randn_like(merged)
    optimizer.step()
    assert not torch.equal(merged, before)
    again = toy.MUON(Muon.groups(model))
    again.load_state_dict(optimizer.state_dict())
    assert torch.equal(again.state[merged]["momentum_buffer"], optimizer.state[merged]["momentum_buffer"])


def test_merged_projections_move_as_they_would_apart() -> None:
    torch.manual_seed(1)
    gradient = torch.cat([torch.randn(4, 4), torch.randn(4, 4), 1000 * torch.randn(4, 4)])
    make = partial(
        Muon, lr=1.0, momentum=0.0, weight_decay=0.0, adamw_lr=1.0, adamw_betas=(0.9, 0.9), adamw_eps=1e-8,
        adamw_weight_decay=0.0,
    )  # fmt: skip
    merged, other = torch.zeros(12, 4, requires_grad=True), torch.zeros(1, requires_grad=True)
    apart = [torch.zeros(4, 4, requires_grad=True) for _ in range(3)]
    merged.grad = gradient
    for part, g in zip(apart, gradient.chunk(3), strict=True):
        part.grad = g
    make([{"params": [merged], "n_parts": 3}, {"params": [other]}]).step()
    make([{"params": apart, "n_parts": 1}, {"params": [other]}]).step()
    torch.testing.assert_close(merged, torch.cat(apart))
    lengths = [float(part.norm()) for part in merged.detach().chunk(3)]
    # Four singular values near 1, times RMS times the root of the longer side: for the small gradients too.
    assert all(RMS * 2 * 2 * 0.6 < length < RMS * 2 * 2 * 1.25 for length in lengths)


def test_both_rates_stand_in_the_groups(toy: Any) -> None:
    optimizer = toy.MUON(Muon.groups(toy.model()))
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.01, 0.01, 0.02, 0.02]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(map(torch.equal, before, (p for group in optimizer.param_groups for p in group["params"])))


@pytest.mark.parametrize(("name", "value"), [("lr", -1.0), ("momentum", 1.0), ("weight_decay", float("nan"))])
def test_an_impossible_value_is_refused(toy: Any, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 0 and below"):
        toy.MUON(Muon.groups(toy.model()), **{name: value})
