"""German word forms: verbs, determiners, adjectives, nouns, compounds, contractions. All functions are pure.

Cases are `nominative`, `accusative`, `dative`, `genitive`; genders m, f, n. A column of a table of endings is m, f, n
or the plural, p.
"""

import re

from transformer.data.grammar.noun import Modifier, Noun

CASES = ("nominative", "accusative", "dative", "genitive")

_ARTICLE = {
    "nominative": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "accusative": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dative": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
    "genitive": {"m": "des", "f": "der", "n": "des", "p": "der"},
}
# Endings in the order m, f, n, plural; "-" is no ending.
_STRONG_DETERMINER = {
    "nominative": "er e es e",
    "accusative": "en e es e",
    "dative": "em er em en",
    "genitive": "es er es er",
}
_MIXED_DETERMINER = _STRONG_DETERMINER | {"nominative": "- e - e", "accusative": "en e - e"}
_WEAK = {"nominative": "e e e en", "accusative": "en e e en", "dative": "en en en en", "genitive": "en en en en"}
_MIXED = _WEAK | {"nominative": "er e es en", "accusative": "en e es en"}
_STRONG = _STRONG_DETERMINER | {"genitive": "en er en er"}

_MIXED_STEMS = ("ein", "kein", "mein", "dein", "sein", "ihr", "unser")
_STRONG_STEMS = ("dies", "jed", "welch", "all")

_IRREGULAR = {
    "sein": ("bin bist ist sind seid sind", "war warst war waren wart waren"),
    "haben": ("habe hast hat haben habt haben", "hatte hattest hatte hatten hattet hatten"),
    "werden": ("werde wirst wird werden werdet werden", "wurde wurdest wurde wurden wurdet wurden"),
    "wissen": ("weiß weißt weiß wissen wisst wissen", "wusste wusstest wusste wussten wusstet wussten"),
    "können": ("kann kannst kann können könnt können", "konnte konntest konnte konnten konntet konnten"),
    "müssen": ("muss musst muss müssen müsst müssen", "musste musstest musste mussten musstet mussten"),
    "dürfen": ("darf darfst darf dürfen dürft dürfen", "durfte durftest durfte durften durftet durften"),
    "wollen": ("will willst will wollen wollt wollen", "wollte wolltest wollte wollten wolltet wollten"),
    # should is the subjunctive of sollen, whose forms are those of its past
    "sollen": ("sollte solltest sollte sollten solltet sollten", "sollte solltest sollte sollten solltet sollten"),
}
_CONTRACTIONS = {
    ("in", "dem"): "im",
    ("in", "das"): "ins",
    ("an", "dem"): "am",
    ("an", "das"): "ans",
    ("zu", "dem"): "zum",
    ("zu", "der"): "zur",
    ("bei", "dem"): "beim",
    ("von", "dem"): "vom",
}
_NEEDS_E = re.compile(r"(t|d|[^aeiouäöülrhmn][mn])$")
_SYLLABLE = re.compile(r"ie|ei|eu|äu|au|aa|ee|oo|[aeiouäöüy]")


def stem_of(infinitive: str) -> str:
    """The stem: lernen, lern; erinnern, erinner."""
    return infinitive.removesuffix("en") if infinitive.endswith("en") else infinitive.removesuffix("n")


def conjugate(infinitive: str, change: str, tense: str, person: int, plural: bool) -> str:
    """The finite form without a separable prefix, in `present`, or in `past` for sein, haben, werden, wissen, modals.

    `change` is the stem of the second and third person singular (lies-, gib-), empty when the verb has none.
    """
    if infinitive in _IRREGULAR:
        return _IRREGULAR[infinitive][tense == "past"].split()[person - 1 + 3 * plural]
    if tense == "past":
        raise ValueError(f"{infinitive} has no simple past here; the past is the perfect")
    stem = stem_of(infinitive)
    if plural:
        return stem + _e(stem) + "t" if person == 2 else infinitive
    if person == 1:
        return stem + "e"
    link = "" if change else _e(stem)
    stem = change or stem
    if person == 2:
        return stem + ("t" if stem.endswith(("s", "ß", "z")) else link + "st")
    return stem if stem.endswith("t") and change else stem + link + "t"


def imperative(infinitive: str, change: str) -> str:
    """The familiar imperative without prefix: lies, gib, öffne, füttere, trag."""
    if change and "ä" not in change:
        return change
    stem = stem_of(infinitive)
    return stem + ("e" if _NEEDS_E.search(stem) or infinitive.endswith("ern") else "")


def _e(stem: str) -> str:
    return "e" if _NEEDS_E.search(stem) else ""


def _ending(table: dict[str, str], case: str, column: str) -> str:
    return table[case].split()["mfnp".index(column)].strip("-")


def definite(case: str, column: str) -> str:
    """The definite article."""
    return _ARTICLE[case][column]


def determiner(stem: str, case: str, column: str) -> str:
    """An inflected determiner: dies, ein, kein, mein, unser, viel, ... by its stem; `der` is the definite article."""
    if stem == "der":
        return definite(case, column)
    return stem + _ending(_MIXED_DETERMINER if stem in _MIXED_STEMS else _STRONG_DETERMINER, case, column)


def adjective(stem: str, after: str, case: str, column: str) -> str:
    """An attributive adjective after the determiner with stem `after`, which is empty for none or a number word."""
    if after in _MIXED_STEMS:
        table = _MIXED
    elif after == "der" or after in _STRONG_STEMS:
        table = _WEAK
    else:
        table = _STRONG
    return stem + _ending(table, case, column)


def noun_form(noun: Noun, case: str, plural: bool) -> str:
    """The noun in its case: dem Jungen, den Kindern, des Mannes."""
    if plural:
        adds = case == "dative" and not noun.de_plural.endswith(("n", "s"))
        return noun.de_plural + ("n" if adds else "")
    if noun.weak:
        return noun.de if case == "nominative" else noun.de_plural
    if case == "genitive" and noun.gender != "f":
        return noun.de + _genitive(noun.de)
    return noun.de


def _genitive(word: str) -> str:
    if word == "Bus":
        return "ses"
    if word.endswith(("s", "ß", "z", "x")):
        return "es"
    return "es" if len(_SYLLABLE.findall(word.lower())) == 1 and not word.endswith(("e", "ee", "ei")) else "s"


def compound(modifier: Modifier | None, form: str) -> str:
    """The compound of a modifier, which carries its linking element, and an inflected head: Küchentischen."""
    return modifier.de + form.lower() if modifier else form


def relative_pronoun(case: str, column: str) -> str:
    """The relative pronoun: the article but for dative plural and genitive."""
    if case == "genitive":
        return "dessen" if column in "mn" else "deren"
    return "denen" if (case, column) == ("dative", "p") else definite(case, column)


def contract(preposition: str, words: list[str]) -> list[str]:
    """Put a preposition before a phrase that may start with a definite article: in dem Garten, im Garten."""
    short = _CONTRACTIONS.get((preposition, words[0]))
    return [short, *words[1:]] if short else [preposition, *words]
