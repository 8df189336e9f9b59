import pytest
import torch

from transformer.training.precision import Precision, cpu_knows_bfloat16

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_autocast_computes_products_in_the_format(name, dtype):
    precision = Precision(name, CPU)
    with precision.autocast():
        assert (torch.randn(2, 3) @ torch.randn(3, 4)).dtype == dtype
    assert (torch.randn(2, 3) @ torch.randn(3, 4)).dtype == torch.float32
    assert not precision.scaler.is_enabled()


def test_the_context_can_be_entered_again():
    precision = Precision("bf16", CPU)
    for _ in range(2):
        with precision.autocast():
            assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="precision must be one of fp32, tf32, bf16, fp16, not int8"):
        Precision("int8", CPU)


def test_float16_is_refused_on_a_cpu():
    with pytest.raises(ValueError, match="fp16 needs a GPU; on a CPU use fp32 or bf16"):
        Precision("fp16", CPU)


@pytest.mark.parametrize(
    ("capabilities", "known"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, False),
        ({}, False),
    ],
)
def test_the_processor_is_asked_for_bfloat16(monkeypatch, capabilities, known):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert cpu_knows_bfloat16() is known
    assert (Precision("bf16", CPU).caution() is None) is known
    assert Precision("fp32", CPU).caution() is None


def test_a_torch_that_tells_nothing_of_the_processor_means_no_bfloat16(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not cpu_knows_bfloat16()
    assert "fp32 is faster then" in Precision("bf16", CPU).caution()
