"""Adjectives, adverbs, names, numbers and the other small words: plain data."""

from dataclasses import dataclass

# English, German (predicate/attributive stem when they differ), English comparative ("more" or the form),
# German comparative, tags of the nouns it may describe.
_ADJECTIVES = """
old alt older älter person animal tool wear furniture place vehicle look
young jung younger jünger person animal
friendly freundlich friendlier freundlicher person animal
clever klug cleverer klüger person animal
lazy faul lazier fauler person animal
strong stark stronger stärker person animal
rich reich richer reicher person
poor arm poorer ärmer person
famous berühmt more berühmter person sight book song
brave mutig braver mutiger person animal
curious neugierig more neugieriger person animal
tired müde/müd more müder person animal
hungry hungrig hungrier hungriger person animal
happy glücklich happier glücklicher person
sad traurig sadder trauriger person music story
sick krank sicker kränker person animal
big groß bigger größer animal tool furniture place vehicle food nature ride
small klein smaller kleiner animal tool furniture place vehicle food nature
new neu newer neuer tool wear furniture vehicle place look read ride music
beautiful schön more schöner wear place nature tool music vehicle furniture
expensive teuer/teur more teurer wear tool vehicle furniture dish drink
cheap billig cheaper billiger wear tool vehicle furniture dish drink food
heavy schwer heavier schwerer tool furniture
light leicht lighter leichter tool wear
dirty schmutzig dirtier schmutziger wear wash vehicle room
clean sauber cleaner sauberer wear wash room
broken kaputt - - device vehicle breakable furniture
red rot - - wear tool vehicle furniture flower apple tomato
blue blau - - wear tool vehicle furniture
green grün - - wear tool vehicle furniture apple
yellow gelb - - wear tool vehicle flower
black schwarz - - wear tool animal vehicle
white weiß - - wear tool animal house
brown braun - - wear furniture animal
warm warm warmer wärmer dish drink wear room cookable
cold kalt colder kälter drink room dish cookable
fresh frisch fresher frischer food dish drink
sweet süß sweeter süßer apple pear orange banana cookie cake tea honey wine
good gut better besser food dish drink book doctor teacher friend singer restaurant
long lang longer länger read street bridge dress coat
short kurz shorter kürzer read dress music
interesting interessant more interessanter read idea museum city
boring langweilig more langweiliger read report
difficult schwierig more schwieriger idea book
important wichtig more wichtiger letter report idea key
strange seltsam stranger seltsamer animal person idea read tool
quiet ruhig quieter ruhiger place person
modern modern more moderner place furniture device
fast schnell faster schneller vehicle ride horse
slow langsam slower langsamer vehicle ride
dangerous gefährlich more gefährlicher bear lion river street forest
"""

# Adjectives of one line exclude each other: no old table is new, no yellow one black.
_AXES = """
old young new modern
big small
long short
clean dirty
warm cold
cheap expensive
heavy light
fast slow
happy sad
rich poor
interesting boring
red blue green yellow black white brown
"""

MANNERS = {
    "q": ("quickly", "schnell"),
    "s": ("slowly", "langsam"),
    "l": ("loudly", "laut"),
    "u": ("quietly", "leise"),
    "c": ("carefully", "vorsichtig"),
    "w": ("well", "gut"),
    "a": ("alone", "allein"),
}
FREQUENCIES = (("always", "immer"), ("often", "oft"), ("sometimes", "manchmal"), ("rarely", "selten"), ("never", "nie"))

TIMES = {
    "past": (
        ("yesterday", "gestern"),
        ("last week", "letzte Woche"),
        ("last night", "letzte Nacht"),
        ("on Monday", "am Montag"),
        ("on Friday", "am Freitag"),
        ("on Sunday", "am Sonntag"),
        ("a week ago", "vor einer Woche"),
    ),
    "present": (
        ("today", "heute"),
        ("every day", "jeden Tag"),
        ("every morning", "jeden Morgen"),
        ("every evening", "jeden Abend"),
        ("every Monday", "jeden Montag"),
        ("in the morning", "am Morgen"),
        ("in the evening", "am Abend"),
        ("at night", "in der Nacht"),
    ),
    "future": (
        ("tomorrow", "morgen"),
        ("tonight", "heute Abend"),
        ("next week", "nächste Woche"),
        ("on Tuesday", "am Dienstag"),
        ("on Saturday", "am Samstag"),
        ("soon", "bald"),
    ),
}
# With events that are planned or remembered for long.
FAR_TIMES = {
    "past": (("last year", "letztes Jahr"), ("a month ago", "vor einem Monat"), ("last summer", "letzten Sommer")),
    "present": (("in summer", "im Sommer"), ("in winter", "im Winter"), ("every year", "jedes Jahr")),
    "future": (("next month", "nächsten Monat"), ("next year", "nächstes Jahr"), ("next winter", "nächsten Winter")),
}
# English unit, German dative plural after vor and in
UNITS = (("hours", "Stunden"), ("days", "Tagen"), ("weeks", "Wochen"), ("months", "Monaten"), ("years", "Jahren"))
MONTHS = (("March", "März"), ("April", "April"), ("May", "Mai"), ("July", "Juli"), ("October", "Oktober"))

WOMEN = ("Anna", "Maria", "Clara", "Sophie", "Laura", "Julia")
MEN = ("Peter", "Paul", "Martin", "Emil", "David", "Oskar")
CITIES = (
    ("Berlin", "Berlin"),
    ("Hamburg", "Hamburg"),
    ("Munich", "München"),
    ("Vienna", "Wien"),
    ("Cologne", "Köln"),
    ("Paris", "Paris"),
    ("Rome", "Rom"),
)
# English, German for men, German for women
PROFESSIONS = (
    ("teacher", "Lehrer", "Lehrerin"),
    ("doctor", "Arzt", "Ärztin"),
    ("baker", "Bäcker", "Bäckerin"),
    ("farmer", "Bauer", "Bäuerin"),
    ("student", "Student", "Studentin"),
    ("painter", "Maler", "Malerin"),
    ("gardener", "Gärtner", "Gärtnerin"),
    ("singer", "Sänger", "Sängerin"),
    ("judge", "Richter", "Richterin"),
)

_UNITS = """
zero one two three four five six seven eight nine
ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
null eins zwei drei vier fünf sechs sieben acht neun
zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn
"""
_UNITS_EN, _UNITS_DE = _UNITS.split()[:20], _UNITS.split()[20:]
_TENS_EN = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_TENS_DE = ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]


@dataclass(frozen=True)
class Adjective:
    """An adjective; `stem` takes the attributive endings; the comparatives are empty when it has none."""

    en: str
    de: str
    stem: str
    en_comparative: str
    de_comparative: str
    tags: frozenset[str]

    @property
    def axis(self) -> frozenset[str]:
        """The English adjectives that cannot be said together with this one, itself included."""
        return _AXIS.get(self.en, frozenset((self.en,)))


_AXIS = {word: frozenset(line.split()) for line in _AXES.strip().splitlines() for word in line.split()}


def number_words(number: int) -> tuple[str, str]:
    """The English and the German word for 0 to 99: twenty-one, einundzwanzig. Before a noun 1 is said otherwise."""
    tens, units = divmod(number, 10)
    if number < 20:
        return _UNITS_EN[number], _UNITS_DE[number]
    en, de = _TENS_EN[tens - 2], _TENS_DE[tens - 2]
    if not units:
        return en, de
    return f"{en}-{_UNITS_EN[units]}", f"{'ein' if units == 1 else _UNITS_DE[units]}und{de}"


def _adjective(line: str) -> Adjective:
    en, de, en_comparative, de_comparative, *tags = line.split()
    de, _, stem = de.partition("/")
    if en_comparative == "more":
        en_comparative = f"more {en}"
    return Adjective(en, de, stem or de, en_comparative.strip("-"), de_comparative.strip("-"), frozenset(tags))


ADJECTIVES = tuple(_adjective(line) for line in _ADJECTIVES.strip().splitlines())
ADJECTIVE = {adjective.en: adjective for adjective in ADJECTIVES}
