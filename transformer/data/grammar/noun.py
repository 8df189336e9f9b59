"""Nouns: plain data, one line each, read once on import."""

import functools
from dataclasses import dataclass

from transformer.data.grammar.english import plural_of

_TABLE = """
man/men Mann m Männer person
woman/women Frau f Frauen person
boy Junge m* Jungen person
girl Mädchen n Mädchen person female
child/children Kind n Kinder person own
teacher Lehrer m Lehrer person job own
doctor Arzt m Ärzte person job own
baker Bäcker m Bäcker person job
farmer Bauer m* Bauern person job
neighbor Nachbar m* Nachbarn person own
student Student m* Studenten person
friend Freund m Freunde person own
brother Bruder m Brüder person kin own
sister Schwester f Schwestern person kin own
mother Mutter f Mütter person kin own single
father Vater m Väter person kin own single
uncle Onkel m Onkel person kin own
aunt Tante f Tanten person kin own
grandmother Großmutter f Großmütter person kin own single
grandfather Großvater m Großväter person kin own single
king König m Könige person single
queen Königin f Königinnen person single
painter Maler m Maler person job
gardener Gärtner m Gärtner person job
singer Sänger m Sänger person job
daughter Tochter f Töchter person kin own
son Sohn m Söhne person kin own
guest Gast m Gäste person own
customer Kunde m* Kunden person
colleague Kollege m* Kollegen person own
tourist Tourist m* Touristen person
nurse Krankenschwester f Krankenschwestern person
waitress Kellnerin f Kellnerinnen person
judge Richter m Richter person job
dog Hund m Hunde animal own
cat Katze f Katzen animal own
horse Pferd n Pferde animal own
bird Vogel m Vögel animal
cow Kuh f Kühe animal own
mouse/mice Maus f Mäuse animal
bear Bär m* Bären animal wild
lion Löwe m* Löwen animal wild
rabbit Kaninchen n Kaninchen animal own
duck Ente f Enten animal own
goat Ziege f Ziegen animal own
donkey Esel m Esel animal own
monkey Affe m* Affen animal wild
apple Apfel m Äpfel food
pear Birne f Birnen food
orange Orange f Orangen food
banana Banane f Bananen food
tomato Tomate f Tomaten food
potato Kartoffel f Kartoffeln food cookable
carrot Karotte f Karotten food cookable
egg Ei n Eier food cookable
cookie Keks m Kekse food baked
cake Kuchen m Kuchen food baked
pizza Pizza f Pizzas food baked
sausage Wurst f Würste food
salad Salat m Salate food
soup Suppe f Suppen food cookable
bread/- Brot n - dish baked
cheese/- Käse m - dish
rice/- Reis m - dish cookable
meat/- Fleisch n - dish cookable
honey/- Honig m - dish
water/- Wasser n - drink
milk/- Milch f - drink
tea/- Tee m - drink
coffee/- Kaffee m - drink
juice/- Saft m - drink
wine/- Wein m - drink
book Buch n Bücher read write tool
letter Brief m Briefe read write tool
newspaper Zeitung f Zeitungen read tool
story Geschichte f Geschichten read write tell
poem Gedicht n Gedichte read write
report Bericht m Berichte read write
table Tisch m Tische furniture stand top
chair Stuhl m Stühle furniture stand top
bench Bank f Bänke furniture stand top
lamp Lampe f Lampen furniture stand device
bed Bett n Betten furniture stand top
sofa Sofa n Sofas furniture stand top
cupboard Schrank m Schränke furniture stand
cup Tasse f Tassen tool stand breakable wash
plate Teller m Teller tool stand breakable wash
bottle Flasche f Flaschen tool stand breakable
vase Vase f Vasen tool stand breakable
knife/knives Messer n Messer tool flat wash
spoon Löffel m Löffel tool flat wash
fork Gabel f Gabeln tool flat wash
key Schlüssel m Schlüssel tool flat
bag Tasche f Taschen tool stand
suitcase Koffer m Koffer tool stand
umbrella Regenschirm m Regenschirme tool flat
clock Uhr f Uhren tool
picture Bild n Bilder tool look flat
ball Ball m Bälle tool flat
gift Geschenk n Geschenke tool flat
camera Kamera f Kameras tool flat device
computer Computer m Computer tool device
radio Radio n Radios tool device
mirror Spiegel m Spiegel tool breakable
flower Blume f Blumen nature
tree Baum m Bäume nature
bicycle Fahrrad n Fahrräder vehicle wash
car Auto n Autos vehicle wash
bus Bus m Busse ride
train Zug m Züge ride
boat Boot n Boote vehicle build
coat Mantel m Mäntel wear wash
hat Hut m Hüte wear
shirt Hemd n Hemden wear wash
dress Kleid n Kleider wear wash
jacket Jacke f Jacken wear wash
shoe Schuh m Schuhe wear
door Tür f Türen open clean
window Fenster n Fenster open clean
song Lied n Lieder music
question Frage f Fragen idea
answer Antwort f Antworten idea
garden Garten m Gärten place in-in inside
park Park m Parks place in-in inside
house Haus n Häuser place in-in inside build
kitchen Küche f Küchen place in-in inside room
room Zimmer n Zimmer place in-in inside room
cellar Keller m Keller place in-in inside room
office Büro n Büros place in-in inside room
school Schule f Schulen place in-in inside
city Stadt f Städte place in-in inside sight
village Dorf n Dörfer place in-in inside
forest Wald m Wälder place in-in inside
museum Museum n Museen place in-in inside sight
library Bibliothek f Bibliotheken place in-in inside
restaurant Restaurant n Restaurants place in-in inside
hotel Hotel n Hotels place in-in inside build
church Kirche f Kirchen place in-in inside sight
hospital Krankenhaus n Krankenhäuser place in-in inside
castle Schloss n Schlösser place in-in inside sight build
theater Theater n Theater place in-in inside
market Markt m Märkte place at-auf
farm Bauernhof m Bauernhöfe place on-auf
street Straße f Straßen place on-auf
bridge Brücke f Brücken place on-auf build
island Insel f Inseln place on-auf sight
station Bahnhof m Bahnhöfe place at-an
airport Flughafen m Flughäfen place at-an
beach Strand m Strände place at-an
lake See m Seen place at-an
river Fluss m Flüsse place at-an
"""

# Modifier of a compound: English word, German form with its linking element, the heads it goes with.
_MODIFIERS = """
kitchen Küchen table,chair,bench,lamp,cupboard,clock,door,window,knife,garden
garden Garten table,chair,bench,lamp,door,flower,house
school Schul table,chair,bench,clock,door,window,book,newspaper,garden,library,theater,bag,bus
office Büro table,chair,lamp,cupboard,clock,door,window,computer
hotel Hotel bed,door,window,kitchen,garden,room,key
church Kirchen bench,door,window,garden
winter Winter coat,hat,dress,jacket,shoe,garden
summer Sommer hat,dress,jacket,shoe,theater,house
leather Leder coat,hat,jacket,shoe,bag,sofa,suitcase
wool Woll coat,hat,dress,jacket
silk Seiden dress,shirt,jacket
sports Sport shirt,jacket,shoe,bag,newspaper
work Arbeits shirt,jacket,shoe,table,room
travel Reise bag,book
apple Apfel juice,cake,tree
orange Orangen juice,cake,tree
tomato Tomaten juice,soup,salad
potato Kartoffel soup,salad
carrot Karotten juice,soup,salad,cake
fish Fisch soup,salad,knife,restaurant
vegetable Gemüse soup,garden,knife
fruit Obst salad,knife,cake,garden
nut Nuss cake,tree
birthday Geburtstags cake,gift
love Liebes letter,song,story,poem
animal Tier story,book,picture
history Geschichts book,museum
art Kunst book,museum,school
picture Bilder book
coffee Kaffee cup,spoon
tea Tee cup
wine Wein bottle,cellar
water Wasser bottle
milk Milch bottle
soup Suppen spoon,plate
cake Kuchen fork,plate
bread Brot knife
house Haus key,door
car Auto key,door
flower Blumen vase,garden,picture
city Stadt park,museum,library,theater,church,hotel,garden,house
village Dorf church,school,street,library,park
castle Schloss park,garden,museum,church,hotel,door
forest Wald school,hotel,lake
beach Strand hotel,house,restaurant
music Musik school
mountain Berg hotel,village,lake,farm
"""


@dataclass(frozen=True)
class Noun:
    """A noun of both languages: `gender` is m, f or n; `weak` is the n-declension; no plural means a mass noun."""

    en: str
    en_plural: str
    de: str
    gender: str
    weak: bool
    de_plural: str
    tags: frozenset[str]

    @property
    def mass(self) -> bool:
        """True when the noun is not counted (bread, water)."""
        return not self.de_plural

    @property
    def personal(self) -> str:
        """The English pronoun for one of them: he, she, it, or nothing for a child, whose sex is not said."""
        if "person" not in self.tags:
            return "it"
        if self.gender == "n":
            return "she" if "female" in self.tags else ""
        return "he" if self.gender == "m" else "she"


@dataclass(frozen=True)
class Modifier:
    """The first half of a compound: `kitchen table` is `Küchentisch`, so `de` is `Küchen`."""

    en: str
    de: str
    heads: tuple[str, ...]


def _noun(line: str) -> Noun:
    en, de, gender, de_plural, *tags = line.split()
    singular, _, irregular = en.partition("/")
    mass = de_plural == "-"
    en_plural = "" if mass else irregular or plural_of(singular)
    return Noun(singular, en_plural, de, gender[0], gender.endswith("*"), "" if mass else de_plural, frozenset(tags))


NOUNS = tuple(_noun(line) for line in _TABLE.strip().splitlines())
NOUN = {noun.en: noun for noun in NOUNS}


def _modifier(line: str) -> Modifier:
    en, de, heads = line.split()
    return Modifier(en, de, tuple(heads.split(",")))


MODIFIERS = tuple(_modifier(line) for line in _MODIFIERS.strip().splitlines())


@functools.cache
def with_tags(*tags: str) -> tuple[Noun, ...]:
    """The nouns, in the order of the table, that carry one of the tags or are named by one."""
    wanted = frozenset(tags)
    return tuple(noun for noun in NOUNS if noun.en in wanted or noun.tags & wanted)


@functools.cache
def modifiers_of(noun: Noun) -> tuple[Modifier, ...]:
    """The modifiers that make a sensible compound with this head."""
    return tuple(modifier for modifier in MODIFIERS if noun.en in modifier.heads)
