"""Verbs: plain data, one line each, read once on import.

Columns: English base (`pick+up` has a movable particle, `wait/for` a fixed preposition), English past and participle
(`-` regular), German infinitive (`ab|holen` separable, `sich:` reflexive), the stem of du and er where it changes,
German participle without prefix, auxiliary (h haben, s sein), frame, tags of the subject, tags of the object,
letters of the manner adverbs that fit, flags.

Frames: i nothing, a accusative, d dative, da dative and accusative, p:PREPOSITION:CASE a prepositional object,
to a direction, at a place where something is, put an accusative and a direction,
that a clause, zu an infinitive, have possession.
Flags: s a state, so neither progressive nor imperative; t a lasting one, which has no time; i no imperative; p has a
sensible passive; 1 done with one thing.
"""

from dataclasses import dataclass

from transformer.data.grammar.english import past_of

_TABLE = """
eat ate eaten essen iss gegessen h a person food+dish qsa p
drink drank drunk trinken - getrunken h a person drink qs p
read read read lesen lies gelesen h a person read acu p
write wrote written schreiben - geschrieben h a person write qca p
buy bought bought kaufen - gekauft h a person food+dish+drink+wear+tool+vehicle+furniture q p
sell sold sold verkaufen - verkauft h a person food+dish+wear+vehicle+furniture q p
see saw seen sehen sieh gesehen h a person+animal person+animal+ride - s
hear heard heard hören - gehört h a person person+animal+music - s
find found found finden - gefunden h a person tool+wear+animal q ip
lose lost lost verlieren - verloren h a person tool+wear - s
look/for - - suchen - gesucht h a person tool+wear+animal qca -
need - - brauchen - gebraucht h a person tool+wear+furniture+vehicle - s
love - - lieben - geliebt h a person person+animal - st
cook - - kochen - gekocht h a person cookable qsa p
bake - - backen - gebacken h a person baked qa p
open - - öffnen - geöffnet h a person open+letter qsuc p
close - - schließen - geschlossen h a person open+suitcase+bag qsuc p
wash - - waschen wäsch gewaschen h a person vehicle+coat+shirt+dress+jacket+apple+potato+carrot+horse+dog qsc p
clean - - putzen - geputzt h a person clean+shoe+mirror qc p
repair - - reparieren - repariert h a person vehicle+device+furniture+clock qca p
paint - - malen - gemalt h a person picture+nature+animal+castle+bridge qsca p
carry - - tragen träg getragen h a person tool+furniture sca p
break broke broken zerbrechen zerbrich zerbrochen h a person breakable - i
build built built bauen - gebaut h a person build qsa p
sing sang sung singen - gesungen h a person music lua p
visit - - besuchen - besucht h a person person+sight a p
know knew known kennen - gekannt h a person person+sight - st
meet met met treffen triff getroffen h a person person - -
invite - - ein|laden läd geladen h a person person - p
call - - an|rufen - gerufen h a person person - p
pick+up - - ab|holen - geholt h a person person a p
bring+along brought brought mit|bringen - gebracht h a person tool+food+animal - -
take+along took taken mit|nehmen nimm genommen h a person tool+animal+food - -
turn+on - - ein|schalten - geschaltet h a person device qu p
turn+off - - aus|schalten - geschaltet h a person device qu p
put+on put put an|ziehen - gezogen h a person coat+shirt+dress+jacket+shoe qs 1
take+off took taken aus|ziehen - gezogen h a person coat+shirt+dress+jacket+shoe qs 1
clean+up - - auf|räumen - geräumt h a person room qsca p
throw+away threw thrown weg|werfen wirf geworfen h a person tool+wear q p
look/at - - an|sehen sieh gesehen h a person look+sight+animal cu -
try+out tried tried aus|probieren - probiert h a person vehicle+device q -
understand understood understood verstehen - verstanden h a person idea - s
forget forgot forgotten vergessen vergiss vergessen h a person tool+idea - s
feed fed fed füttern - gefüttert h a person animal a p
catch caught caught fangen fäng gefangen h a person animal q p
hide hid hidden verstecken - versteckt h a person tool quc p
sleep slept slept schlafen schläf geschlafen h i person+animal - wa -
work - - arbeiten - gearbeitet h i person - qscuwa -
laugh - - lachen - gelacht h i person - lu -
cry cried cried weinen - geweint h i person - lua -
dance - - tanzen - getanzt h i person - wa -
play - - spielen - gespielt h i person+animal - ua -
swim swam swum schwimmen - geschwommen s i person+animal - qswa -
bark - - bellen - gebellt h i dog - l -
rest - - sich:aus|ruhen - geruht h i person - a -
hurry hurried hurried sich:beeilen - beeilt h i person - - -
get+up got got auf|stehen - gestanden s i person - qs -
wake+up woke woken auf|wachen - gewacht s i person+animal - s -
fall+asleep fell fallen ein|schlafen schläf geschlafen s i person+animal - qs i
arrive - - an|kommen - gekommen s i person+ride - a i
depart - - ab|fahren fähr gefahren s i person+ride - qa i
come+back came come zurück|kommen - gekommen s i person+animal - qa i
stay - - bleiben - geblieben s at person - a -
sit sat sat sitzen - gesessen h at person+animal - ua i
stand stood stood stehen - gestanden h at stand+person - - s
lie lay lain liegen - gelegen h at flat+animal - - s
live - - wohnen - gewohnt h at person - a s
help - - helfen hilf geholfen h d person person - -
thank - - danken - gedankt h d person person - -
answer - - antworten - geantwortet h d person person qu -
follow - - folgen - gefolgt s d person+animal person+animal qsu -
trust - - vertrauen - vertraut h d person person - st
listen/to - - zu|hören - gehört h d person person cu -
congratulate - - gratulieren - gratuliert h d person person - -
belong/to - - gehören - gehört h d tool+wear+vehicle person - st
give gave given geben gib gegeben h da person tool+food+wear - -
show - shown zeigen - gezeigt h da person tool+look+animal+wear - -
send sent sent schicken - geschickt h da person gift+letter+book+picture+bag - -
bring brought brought bringen - gebracht h da person tool+food+drink+dish - -
lend lent lent leihen - geliehen h da person book+umbrella+bag+suitcase+camera+computer+vehicle+coat - -
recommend/to - - empfehlen empfiehl empfohlen h da person book+story+restaurant+hotel+museum - -
explain/to - - erklären - erklärt h da job story+question+answer+picture cu -
tell told told erzählen - erzählt h da person tell - -
wait/for - - warten - gewartet h p:auf:accusative person person+ride ua -
think/of thought thought denken - gedacht h p:an:accusative person person - st
talk/about - - sprechen sprich gesprochen h p:über:accusative person person+read+idea lu -
dream/of - - träumen - geträumt h p:von:dative person sight+vehicle+animal - st
laugh/about - - lachen - gelacht h p:über:accusative person story+question+answer+picture+hat lu -
ask/for - - bitten - gebeten h p:um:accusative person answer+book+gift+letter u -
remember - - sich:erinnern - erinnert h p:an:accusative person person+story+song - st
look+forward/to - - sich:freuen - gefreut h p:auf:accusative person gift+letter+guest+cake - s
take+care/of took taken sich:kümmern - gekümmert h p:um:accusative person person+animal - s
go went gone gehen - gegangen s to person walk qsa -
run ran run laufen läuf gelaufen s to person+animal walk q -
drive drove driven fahren fähr gefahren s to person far qsa -
travel - - reisen - gereist s to person far a -
fly flew flown fliegen - geflogen s to person city a -
come came come kommen - gekommen s to person walk qa -
jump - - springen - gesprungen s to animal+child top q -
climb - - klettern - geklettert s to animal+child high qscu -
rain - - regnen - geregnet h it it - - s
have had had haben - gehabt h have person animal+tool+vehicle+furniture+idea - s
say said said sagen - gesagt h that person - - s
believe - - glauben - geglaubt h that person - - s
know knew known wissen - gewusst h that person - - st
hope - - hoffen - gehofft h that person - - s
think thought thought denken - gedacht h that person - - s
hear heard heard hören - gehört h that person - - s
ask - - fragen - gefragt h that person - - s
try tried tried versuchen - versucht h zu person - - s
promise - - versprechen versprich versprochen h zu person - - s
forget forgot forgotten vergessen vergiss vergessen h zu person - - s
start - - an|fangen fäng gefangen h zu person - - s
plan - - planen - geplant h zu person - - s
decide - - beschließen - beschlossen h zu person - - s
lay laid laid legen - gelegt h put person flat c -
put put put stellen - gestellt h put person stand c -
"""


@dataclass(frozen=True)
class Verb:
    """A verb of both languages with its frame; `change` is the stem of du and er, empty when it does not change."""

    en: str
    particle: str
    en_preposition: str
    past: str
    past_participle: str
    infinitive: str
    prefix: str
    reflexive: bool
    change: str
    participle: str
    moves: bool
    frame: str
    preposition: str
    preposition_case: str
    subject: tuple[str, ...]
    object: tuple[str, ...]
    manners: str
    flags: str

    @property
    def key(self) -> str:
        """The name of this verb in records, which tells `clean` from `clean up` and the two of `know` apart."""
        frame = self.frame if self.frame in ("that", "zu") else ""
        return "_".join(part for part in (self.en, self.particle, self.en_preposition, frame) if part)

    @property
    def state(self) -> bool:
        """True for a state: it has no progressive and no imperative."""
        return "s" in self.flags


def _verb(line: str) -> Verb:
    en, past, past_participle, de, change, participle, auxiliary, frame, subject, objects, manners, flags = line.split()
    en, _, en_preposition = en.partition("/")
    en, _, particle = en.partition("+")
    reflexive = de.startswith("sich:")
    prefix, _, infinitive = de.removeprefix("sich:").rpartition("|")
    frame, _, preposition = frame.partition(":")
    preposition, _, case = preposition.partition(":")
    past = past_of(en) if past == "-" else past
    return Verb(
        en=en,
        particle=particle,
        en_preposition=en_preposition,
        past=past,
        past_participle=past if past_participle == "-" else past_participle,
        infinitive=infinitive,
        prefix=prefix,
        reflexive=reflexive,
        change=change.strip("-"),
        participle=prefix + participle,
        moves=auxiliary == "s",
        frame=frame,
        preposition=preposition,
        preposition_case=case,
        subject=tuple(subject.split("+")),
        object=tuple(objects.strip("-").split("+")),
        manners=manners.strip("-"),
        flags=flags,
    )


VERBS = tuple(_verb(line) for line in _TABLE.strip().splitlines())
VERB = {verb.key: verb for verb in VERBS}
