"""What is plausible: where and how often things happen, and why. Plain data; verbs are named by their key."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_HOME = "kitchen garden house room"
_TABLE = "kitchen garden restaurant park hotel school"
_QUIET = "library garden park kitchen room office"
_WORK = "cellar garden street farm"
_PUBLIC = "park school museum market station library restaurant theater church street village"
_OUTDOORS = "garden park forest beach farm street lake"

PLACES_OF = {
    _HOME: "get_up open close clean turn_on turn_off put_on take_off clean_up fall_asleep wake_up call tell hide",
    _TABLE: "eat drink invite thank",
    _QUIET: "read write sleep rest think_of dream_of cry try sing",
    _WORK: "repair wash build carry break throw_away",
    "market village station street": "buy sell",
    "kitchen restaurant hotel": "cook bake",
    "office school hospital museum library garden restaurant": "work explain",
    "lake river beach": "swim",
    "park garden forest farm street": "bark feed catch play try_out paint",
    "station airport hotel school": "pick_up wait_for",
    "station": "arrive depart",
    "": "come_back hurry",
    "garden restaurant theater street castle park": "dance laugh",
    _OUTDOORS: "follow look_for find lose look_at take_care_of",
    "house village city castle forest street island hotel": "live",
}
PLACES = {verb: _words(places) for places, verbs in PLACES_OF.items() for verb in verbs.split()}
ANYWHERE = _words(_PUBLIC)

# Happens in some city: in Berlin.
IN_CITY = _words("buy sell meet work visit see find lose dance sing look_for invite thank arrive")
# Worth a date years away.
LONG = _words("build buy sell visit meet travel fly live work have invite")
# Done once, so neither often nor every day.
ONCE = _words("build find lose break throw_away sell forget try_out hide buy have paint repair")
# With whom, and for whom.
WITH = _words("eat drink cook bake sing visit work dance play swim travel go live look_for wait_for")
FOR = _words("buy cook bake build paint sing")

SPOTS = {
    "on": ("auf", "table chair bench bed sofa"),
    "under": ("unter", "table chair bench bed sofa tree bridge"),
    "behind": ("hinter", "sofa cupboard tree house church door"),
    "next to": ("neben", "table chair lamp bed sofa tree window door church bench"),
    "in front of": ("vor", "house school church door window museum hotel castle cupboard"),
    "in": ("in", "bag suitcase cupboard kitchen garden cellar"),
}
INTO = _words("garden park house kitchen room cellar office school forest museum library hotel church castle")
TO = _words("park school market station church library museum beach lake airport bridge hotel")
FAR = _words("beach lake airport station island castle farm")

# Why somebody does it, and what should have kept them from it: adjectives of the subject, and of the object.
BECAUSE = {
    "sleep": "tired sick",
    "rest": "tired sick old",
    "fall_asleep": "tired",
    "stay": "tired sick sad lazy",
    "eat": "hungry",
    "cook": "hungry",
    "laugh": "happy",
    "dance": "happy",
    "sing": "happy sad",
    "cry": "sad tired",
    "call": "sad curious friendly",
    "help": "friendly strong",
    "work": "poor",
    "repair": "clever",
    "read": "curious",
    "carry": "strong",
    "build": "rich clever",
    "buy": "rich",
    "sell": "poor",
    "travel": "rich curious",
    "climb": "brave curious",
    "invite": "friendly happy",
    "lie": "tired sick lazy",
    "sit": "tired old",
    "ask_for": "curious friendly",
    "follow": "curious",
    "get_up": "hungry",
}
ALTHOUGH = {
    "work": "tired sick rich old",
    "get_up": "tired sick",
    "dance": "tired old sad",
    "laugh": "sad tired",
    "swim": "tired old",
    "help": "tired poor",
    "buy": "poor",
    "carry": "sick old",
    "repair": "tired young",
    "clean_up": "tired lazy",
    "sing": "sad tired",
    "travel": "poor sick old",
    "play": "tired sick",
    "cry": "rich",
    "sleep": "hungry",
    "follow": "tired",
    "wait_for": "tired hungry",
}
BECAUSE_OBJECT = {
    "buy": "cheap beautiful good fresh interesting new modern",
    "sell": "old expensive small",
    "throw_away": "old broken dirty",
    "wash": "dirty",
    "clean": "dirty",
    "repair": "broken old",
    "clean_up": "dirty",
    "read": "interesting short important good new",
    "put_on": "warm new beautiful clean",
    "take_off": "dirty",
    "visit": "famous beautiful interesting",
    "eat": "fresh sweet good",
    "try_out": "new modern",
    "look_at": "beautiful famous strange",
    "drink": "warm cold fresh good",
    "feed": "hungry",
    "need": "new good",
}
ALTHOUGH_OBJECT = {
    "buy": "expensive old broken dirty",
    "sell": "new beautiful good",
    "carry": "heavy",
    "read": "long boring difficult",
    "put_on": "old dirty",
    "understand": "difficult long",
    "drink": "cold expensive",
    "visit": "small",
    "throw_away": "new good",
    "eat": "cold expensive",
    "catch": "fast strong",
    "love": "old lazy strange",
}
# Conjunctions of time: German in the present and in the past, empty where English would rather say it otherwise.
TEMPORAL = {
    "when": ("wenn", "als"),
    "if": ("wenn", ""),
    "while": ("während", "während"),
    "before": ("bevor", "bevor"),
    "as soon as": ("sobald", ""),
    "until": ("bis", "bis"),
}
# Ages from, to, by noun; others from 20 to 70.
AGES = {"boy": (2, 14), "girl": (2, 14), "child": (2, 14), "grandmother": (60, 99), "grandfather": (60, 99)}
# States that pass, so one may say when.
PASSING = _words("tired hungry happy sad sick cold warm dirty clean quiet curious broken")
# What can be too much.
TOO = _words("old young big small expensive cheap heavy long short difficult cold warm tired sick dirty slow fast lazy")
# What there may be in a place.
INSIDE = {
    "city": "restaurant hotel church school library museum theater park market river bridge hospital castle",
    "village": "restaurant hotel church school library market river bridge farm",
    "island": "restaurant hotel church lake castle beach village forest",
    "park": "tree bench flower lake restaurant bridge",
    "forest": "tree lake bear river bird house",
    "house": "room cellar kitchen window mirror sofa cupboard",
    "garden": "tree bench flower bird table rabbit",
}
