import random

import pytest

REFERENCES = [
    'Ein Mann mit einem orangefarbenen Hut, der "etwas" anstarrt.',
    "Ein Boston Terrier läuft über saftig-grünes Gras vor einem weißen Zaun.",
    "Ein Mädchen in einem Karateanzug bricht ein Brett mit einem Tritt.",
    "Fünf Leute in Winterjacken & mit Helmen stehen im Schnee (im Hintergrund: Schneemobile).",
    "Leute reparieren das Dach eines Hauses.",
    "Ein hell gekleideter Mann fotografiert eine Gruppe von 1.250,50 Männern!",
    "",
    "Eine Gruppe von Menschen steht vor einem Iglu.",
    "Ein Junge in einem roten Trikot versucht, die Home Base zu erreichen...",
    "Ein Typ arbeitet an einem Gebäude, 50% fertig.",
    "Eine Frau wäscht sich; das Kind lacht.",
    "DREI KINDER spielen - bei Regen - Fußball.",
]


def _damaged(line: str, rng: random.Random) -> str:
    words = line.split()
    words = [word for word in words if rng.random() > 0.15]
    if len(words) > 3 and rng.random() < 0.4:
        words[1], words[2] = words[2], words[1]
    return " ".join(word.lower() if rng.random() < 0.2 else word for word in words)


@pytest.fixture(scope="session")
def references() -> list[str]:
    return REFERENCES * 3


@pytest.fixture(scope="session")
def hypotheses(references: list[str]) -> list[str]:
    rng = random.Random(7)
    return [_damaged(line, rng) for line in references]


@pytest.fixture(scope="session")
def better(references: list[str], hypotheses: list[str]) -> list[str]:
    """Return a second system, right where the first is wrong in two lines of three."""
    return [reference if i % 3 else hyp for i, (reference, hyp) in enumerate(zip(references, hypotheses, strict=True))]
