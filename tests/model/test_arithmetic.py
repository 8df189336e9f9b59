import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.model import arithmetic
from transformer.model.arithmetic import FEWEST, ROWS, OuterSum, exp_, exp_sums, filled_up, fits, linear, outer, use

onednn = pytest.mark.skipif(not arithmetic.available(), reason="this torch has no oneDNN")
WAYS = ["torch", pytest.param("onednn", marks=onednn)]
MANY = torch.ones(FEWEST, 8)


@pytest.fixture(autouse=True)
def _as_before():
    yield
    use("auto")


@pytest.fixture
def told(monkeypatch, tmp_path):
    """What the processor and torch say of themselves; `worthwhile` is asked anew."""

    def tell(vendor, capability):
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text(f"processor : 0\nvendor_id : {vendor}\n")
        monkeypatch.setattr(arithmetic, "_CPUINFO", cpuinfo)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        arithmetic.worthwhile.cache_clear()

    yield tell
    arithmetic.worthwhile.cache_clear()


@onednn
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this torch has another BLAS than MKL")
@pytest.mark.parametrize(
    ("vendor", "capability", "wanted"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("HygonGenuine", "AVX512", True),
        ("GenuineIntel", "AVX512", False),
        ("AuthenticAMD", "AVX2", False),
    ],
)
def test_auto_takes_onednn_where_mkl_leaves_avx512_alone(told, vendor, capability, wanted):
    told(vendor, capability)
    assert arithmetic.worthwhile() is wanted
    assert fits(MANY, MANY) is wanted


def test_without_cpuinfo_the_processors_name_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(arithmetic.platform, "processor", lambda: "Intel64 Family 6, GenuineIntel")
    assert arithmetic._intel(tmp_path / "none")
    monkeypatch.setattr(arithmetic.platform, "processor", lambda: "AMD64 Family 26, AuthenticAMD")
    assert not arithmetic._intel(tmp_path / "none")


def test_a_way_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="arithmetic is mkl, but must be one of auto, torch, onednn"):
        use("mkl")


def test_a_torch_without_onednn_says_so(monkeypatch):
    monkeypatch.setattr(arithmetic, "available", lambda: False)
    with pytest.raises(ValueError, match=r"arithmetic is onednn, but torch .* has no oneDNN here: take auto or torch"):
        use("onednn")


@onednn
def test_what_does_not_fit():
    use("onednn")
    assert fits(MANY, MANY)
    assert not fits(MANY[1:], MANY)
    assert not fits(MANY.double(), MANY.double())
    assert not fits(MANY.bfloat16(), MANY.bfloat16())
    assert not fits(MANY.to("meta"), MANY.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not fits(MANY, MANY)
    use("torch")
    assert not fits(MANY, MANY)


def test_rows_that_were_not_there_are_zeros():
    rows = filled_up(torch.full((3, 5, 2), 7.0), torch.bfloat16)
    assert rows.shape == (ROWS, 2)
    assert rows[:15].eq(7).all()
    assert not rows[15:].any()


def test_what_is_full_is_not_copied():
    x = torch.randn(2, ROWS, 3)
    assert filled_up(x, torch.float32).data_ptr() == x.data_ptr()
    turned = torch.randn(3, ROWS).T
    assert filled_up(turned, torch.float32).is_contiguous()
    assert torch.equal(filled_up(turned, torch.float32), turned)


@onednn
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_outer_is_the_product_of_the_transposed(n, n_rows, n_columns, seed):
    torch.manual_seed(seed)
    a, b = torch.randn(n, n_rows), torch.randn(n, n_columns)
    assert outer(a, b).is_contiguous()
    torch.testing.assert_close(outer(a, b), a.T @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(70, 40), (40, 70), (70, 100), (100, 70)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sum_over_chunks_is_the_sum_over_all(way, shape, dtype):
    use(way)
    torch.manual_seed(1)
    a, b = torch.randn(100, shape[0]).to(dtype), torch.randn(100, shape[1]).to(dtype)
    total = OuterSum(torch.empty(shape), dtype)
    for rows in (slice(0, 64), slice(64, 96), slice(96, 100)):
        total.add(a[rows], b[rows])
    assert total.whole().is_contiguous()
    tolerance = 1e-4 if dtype == torch.float32 else 0.2
    torch.testing.assert_close(total.whole(), a.float().T @ b.float(), rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n", [0, 1, FEWEST - 1, FEWEST, 100])
def test_linear_is_torchs_but_for_rounding(way, n):
    use(way)
    torch.manual_seed(1)
    x, weight, bias = torch.randn(n, 1, 40), torch.randn(50, 40), torch.randn(50)
    for b in (bias, None):
        wanted = torch.nn.functional.linear(x, weight, b)
        assert linear(x, weight, b).shape == (n, 1, 50)
        torch.testing.assert_close(linear(x, weight, b), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponentials_are_exponentials(way, dtype):
    use(way)
    ends = torch.tensor([0.0, float("-inf")])
    x = torch.cat((-torch.logspace(-6, 2, 100), torch.logspace(-6, 1, 100), ends)).to(dtype).expand(3, -1)
    found, wanted = exp_(x.clone()), x.double().exp()
    assert found.dtype == dtype
    assert found[:, -2:].tolist() == [[1.0, 0.0]] * 3
    # Rounding x log2 e costs as many units in the last place as it has powers of two.
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-38)
    near = x.abs() < 1
    torch.testing.assert_close(found[near].double(), wanted[near], rtol=3e-7, atol=0)


def test_exponentials_are_taken_in_place():
    x = torch.zeros(2, 70)
    assert exp_(x) is x
    assert x.eq(1).all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("width", [3, 64, 100, 300])
def test_a_row_has_the_same_exponentials_in_every_batch(way, width):
    use(way)
    torch.manual_seed(1)
    x = torch.randn(40, width)
    alone = torch.cat([exp_(row[None].clone()) for row in x])
    for begin in range(5):
        assert torch.equal(exp_(x[begin:].clone()), alone[begin:])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("width", [3, 64, 100, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_of_exponentials_are_those_of_any_number_at_once(way, width, dtype):
    use(way)
    torch.manual_seed(1)
    x = (8 * torch.randn(40, width)).to(dtype)
    x[3, 1:] = float("-inf")
    x[4, 1:] = -100.0 + x[4, 0]
    largest = x.amax(1, keepdim=True).float()
    wanted = (x.double() - largest).exp().sum(1, keepdim=True)
    for n_at_once in (1, 3 * width, 40 * width, 1000 * width):
        found = exp_sums(x, largest, n_at_once)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5 if dtype == torch.float32 else 0.02, atol=0)
        torch.testing.assert_close(found[3:5], torch.ones(2, 1), rtol=0, atol=1e-6)
        assert (found >= 1).all()  # or a token would be likelier than certain
        alone = torch.cat([exp_sums(x[i : i + 1], largest[i : i + 1], n_at_once) for i in range(40)])
        assert torch.equal(found, alone)


@pytest.mark.parametrize("way", WAYS)
def test_a_sum_of_exponentials_of_nan_is_nan(way):
    use(way)
    x = torch.zeros(2, 70)
    x[0, 5] = float("nan")
    assert exp_sums(x, x.amax(1, keepdim=True), 1000).isnan().tolist() == [[True], [False]]
