"""English word forms: plurals, verb forms, the indefinite article."""

_DOUBLING = frozenset(("forget", "get", "plan", "put", "run", "sit", "swim"))
_VOWELS = "aeiou"

BE_PRESENT = ("am", "are", "is", "are", "are", "are")
BE_PAST = ("was", "were", "was", "were", "were", "were")


def plural_of(word: str) -> str:
    """The regular English plural: bus, buses; city, cities; potato, potatoes."""
    if word in ("potato", "tomato") or word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in _VOWELS:
        return word[:-1] + "ies"
    return word + "s"


def third_of(verb: str) -> str:
    """The third person singular: go, goes; carry, carries; wash, washes."""
    if verb == "have":
        return "has"
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in _VOWELS:
        return verb[:-1] + "ies"
    return verb + "s"


def past_of(verb: str) -> str:
    """The regular past, which is the regular participle too: bake, baked; carry, carried."""
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in _VOWELS:
        return verb[:-1] + "ied"
    return verb + ("" if verb not in _DOUBLING else verb[-1]) + "ed"


def ing_of(verb: str) -> str:
    """The form in -ing: run, running; write, writing; lie, lying."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if verb in _DOUBLING else "") + "ing"


def finite_of(verb: str, past: str, tense: str, person: int, plural: bool) -> str:
    """The finite form in `present` or `past` for a person 1 to 3; `verb` is the base, `past` its past form."""
    if verb == "be":
        return (BE_PAST if tense == "past" else BE_PRESENT)[person - 1 + 3 * plural]
    if tense == "past":
        return past
    return third_of(verb) if person == 3 and not plural else verb


def possessive_of(word: str, plural: bool) -> str:
    """The genitive with an apostrophe: waitress, waitress's; teachers, teachers'; women, women's."""
    return word + ("'" if plural and word.endswith("s") else "'s")


def with_article(words: list[str]) -> list[str]:
    """Put `a` or `an` in front, by the first sound of the first word."""
    return ["an" if words[0][0] in _VOWELS else "a", *words]
