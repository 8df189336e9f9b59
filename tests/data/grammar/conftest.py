import pytest

from transformer.data.grammar.generate import SEED, SIZES, Derivation, derive


@pytest.fixture(scope="session")
def corpus() -> dict[str, list[Derivation]]:
    """The bundled corpus as derivations, made once."""
    return derive(SEED, SIZES)
