"""Everyday sentences in English and French, for translators in both directions.

A meaning has several wordings on each side: "bike" and "bicycle", "vélo" and "bicyclette"; "the car
is missing", "la voiture a disparu", "la voiture est introuvable". A pair takes one wording of each,
chosen independently, as in a real collection of translations, where people put the same thing in
their own words. So a translator learns that many sentences mean the same, and going to French and
back changes the wording.

The grammar covers tenses, negation, questions, the passive, relative clauses, places and times in
front and at the end, and clauses that are joined. French agrees and elides ("une vieille auto",
"l'auto que j'ai achetée"). Sentences are in lower case, without a full stop.

Some nouns are invented words that are the same in both languages. They are unknown to a word-level
tokenizer, and so teach a translator to carry an unknown word across (Luong et al. 2015, "Addressing
the Rare Word Problem", arXiv:1410.8206).
"""

from __future__ import annotations

import random
import re
import zlib
from dataclasses import dataclass
from functools import cache

SPLITS = ("train", "test")
HELD_OUT = 0.1  # share of the (event, thing) pairs that only the test split puts together

# English wordings = French wordings; nouns with their gender
_THINGS = """
bicycle | bike = vélo m | bicyclette f
car | automobile = voiture f | auto f
watch | wristwatch = montre f
key = clé f
umbrella = parapluie m
book = livre m | bouquin m
coat | jacket = manteau m | veste f
phone | telephone = téléphone m | portable m
computer = ordinateur m
lamp = lampe f
chair = chaise f
table = table f
cup | mug = tasse f
hat | cap = chapeau m | casquette f
bag = sac m
wallet | purse = portefeuille m | porte-monnaie m
camera = caméra f
clock = pendule f
sofa | couch = canapé m | divan m
toy = jouet m
ball = ballon m | balle f
shirt = chemise f
ring = bague f | anneau m
guitar = guitare f
piano = piano m
letter = lettre f
painting | picture = tableau m | peinture f
knife = couteau m
scarf = foulard m | écharpe f
box = boîte f | caisse f
boat = bateau m
window = fenêtre f
door = porte f
radio = radio f
suitcase = valise f
carpet | rug = tapis m
mirror = miroir m | glace f
pen = stylo m
fridge | refrigerator = frigo m | réfrigérateur m
shoe = chaussure f
machine = machine f
cake = gâteau m
bed = lit m
cupboard | wardrobe = armoire f | placard m
shelf = étagère f
wall = mur m
house = maison f
tree = arbre m
present | gift = cadeau m
bottle = bouteille f
glass = verre m
paper = papier m
"""

# English = French, gender
_PEOPLE = """
my brother = mon frère m
my sister = ma sœur f
my mother | my mum = ma mère f | ma maman f
my father | my dad = mon père m | mon papa m
the doctor | the physician = le médecin m | le docteur m
the teacher = le professeur m
our neighbour = notre voisin m
the neighbour = la voisine f
a friend = un ami m
my friend = mon ami m
the boy = le garçon m
the girl = la fille f
the baker = le boulanger m
my aunt = ma tante f
my uncle = mon oncle m
the old man = le vieil homme m | le vieillard m
a young woman = une jeune femme f
the farmer = le fermier m | le paysan m
the tourist = le touriste m
a man = un homme m
someone | somebody = quelqu'un m
the child | the kid = le petit m
my grandmother = ma grand-mère f
the student = l'étudiant m
anna = anna f
paul = paul m
lucy = lucy f
tom = tom m
the cat = le chat m
the dog = le chien m
"""

# the past, then the other forms: English base past participle = French infinitive participle
_EVENTS = """
buy: buy bought bought | purchase purchased purchased = acheter acheté
lose: lose lost lost | mislay mislaid mislaid = perdre perdu | égarer égaré
find: find found found | discover discovered discovered = trouver trouvé | découvrir découvert
break: break broke broken | damage damaged damaged | smash smashed smashed
    = casser cassé | abîmer abîmé | briser brisé
repair: repair repaired repaired | mend mended mended | fix fixed fixed
    = réparer réparé | arranger arrangé
sell: sell sold sold = vendre vendu
clean: clean cleaned cleaned | wash washed washed = nettoyer nettoyé | laver lavé
see: see saw seen | notice noticed noticed = voir vu | remarquer remarqué
hide: hide hid hidden = cacher caché
forget: forget forgot forgotten = oublier oublié
bring: bring brought brought = apporter apporté
use: use used used = utiliser utilisé
choose: choose chose chosen | pick picked picked = choisir choisi
borrow: borrow borrowed borrowed = emprunter emprunté
steal: steal stole stolen = voler volé | dérober dérobé
paint: paint painted painted = peindre peint
carry: carry carried carried = porter porté
look-for: look+for looked+for looked+for | seek sought sought = chercher cherché
want: want wanted wanted = vouloir voulu
take: take took taken = prendre pris
leave: leave left left = laisser laissé
photograph: photograph photographed photographed = photographier photographié
"""

_GIVING = """
give: give gave given | offer offered offered = donner donné | offrir offert
lend: lend lent lent = prêter prêté
show: show showed shown = montrer montré
send: send sent sent = envoyer envoyé
"""

_LIVING = """
sit: sit sat = s'asseoir assis
sleep: sleep slept = dormir dormi
wait: wait waited = attendre attendu
work: work worked = travailler travaillé
run: run ran = courir couru
eat: eat ate = manger mangé
play: play played = jouer joué
talk: talk talked | speak spoke = parler parlé
smile: smile smiled = sourire souri
dance: dance danced = danser dansé
"""

_MOVING = """
went = allé
came = venu
came back | returned = revenu | retourné
arrived = arrivé
stayed = resté
left = parti
"""

_GOALS = """
to the market = au marché
to town | to the city = en ville
home = à la maison | chez moi
to school = à l'école
to work | to the office = au travail | au bureau
to the station = à la gare
to the hotel = à l'hôtel
to the park = au parc
"""

_PREPOSITIONS = """
in = dans
on = sur
under = sous
behind = derrière
near = près de
with = avec
for = pour
without = sans
in front of = devant
"""

# what is so: said of a thing, which stands for {t}; ~ takes the feminine
_STATES = """
missing: {t} is missing | {t} has disappeared | {t} is gone
    = {t} a disparu | {t} n'est plus là | {t} est introuvable
broken: {t} is broken | {t} no longer works | {t} does not work any more | {t} is out of order
    = {t} est cassé~ | {t} ne marche plus | {t} ne fonctionne plus | {t} est en panne
works: {t} works again | {t} is working again | {t} is as good as new
    = {t} marche de nouveau | {t} fonctionne à nouveau | {t} est comme {neuf}
back: {t} is back | {t} has turned up = {t} est de retour | {t} est retrouvé~
sold: {t} is for sale = {t} est à vendre | {t} est en vente
here: {t} is here = {t} est ici | {t} est là
free: {t} costs nothing | {t} is free = {t} ne coûte rien | {t} est gratuit~
lovely: {t} is beautiful | {t} is lovely = {t} est joli~ | {t} est magnifique
dear: {t} is expensive | {t} costs a lot = {t} est {cher} | {t} coûte {cher_m}
cheap: {t} is cheap = {t} est bon marché | {t} n'est pas {cher}
heavy: {t} is heavy = {t} est lourd~
dirty: {t} is dirty = {t} est sale
clean: {t} is clean = {t} est propre
useful: {t} is useful = {t} est utile
"""

# (English, French masculine, French feminine), before or behind the noun
_ADJECTIVES = {
    "before": """
old = vieux vieille
new = nouveau nouvelle
big | large = grand grande | gros grosse
small | little = petit petite
pretty | beautiful = joli jolie
good = bon bonne
""",
    "behind": """
red = rouge rouge
blue = bleu bleue
green = vert verte
black = noir noire
white = blanc blanche
yellow = jaune jaune
expensive = cher chère
heavy = lourd lourde
dirty = sale sale
""",
}

_PLACES = """
at the market = au marché
in the park = dans le parc | au parc
in town | in the city = en ville
at school = à l'école
in the garden = dans le jardin | au jardin
at the station = à la gare
on the train = dans le train
at home = à la maison | chez moi
in the kitchen = dans la cuisine
near the river = près de la rivière
in the street = dans la rue
in the shop | in the store = dans le magasin | dans la boutique
at work | in the office = au travail | au bureau
under the bed = sous le lit
on the table = sur la table
on the mat = sur le tapis | sur le paillasson
in the library = à la bibliothèque
at the hotel = à l'hôtel
in the bus | on the bus = dans le bus
"""

_TIMES = """
yesterday = hier
today = aujourd'hui
this morning = ce matin
last week = la semaine dernière | la semaine passée
last year = l'année dernière | l'an dernier
on monday = lundi
on sunday = dimanche
two days ago = il y a deux jours | avant-hier
last night = hier soir | la nuit dernière
at noon = à midi
a long time ago | long ago = il y a longtemps
after lunch = après le déjeuner
during the holidays = pendant les vacances
now = maintenant
again = encore | de nouveau
in the morning = le matin
all day = toute la journée
at christmas = à noël
in the summer = en été
every day = tous les jours | chaque jour
for a week = pendant une semaine
"""

_LATER = """
tomorrow = demain
next week = la semaine prochaine
soon = bientôt
this evening | tonight = ce soir
"""

_OPENERS = """
unfortunately | sadly = malheureusement | hélas
luckily | fortunately = heureusement | par chance
finally | at last = enfin | finalement
suddenly = soudain | tout à coup
perhaps | maybe = peut-être que
i think that | i believe that = je crois que | je pense que
do you know that = sais-tu que | tu sais que
she says that = elle dit que
everyone knows that | everybody knows that = tout le monde sait que
i have heard that | people say that = j'ai entendu dire que | on dit que
it seems that = il paraît que | il semble que
"""

_LINKS = """
and = et
but = mais
because = parce que | car
so = donc | alors
when = quand | lorsque
although | even though = même si
while = pendant que
as = comme
"""

_INVENTED = "blicket dax fep gazzer modi tarn toma wug zarin zorp".split()


@dataclass(frozen=True)
class SentencePair:
    """One meaning in one of its English and one of its French wordings."""

    english: str
    french: str


@dataclass(frozen=True)
class _Phrase:
    """A noun phrase. `person`: 0 I, 1 you, 2 he or she, 3 we, 4 they."""

    english: str
    french: str
    gender: str = "m"
    person: int = 2
    object: tuple[str, str] | None = None  # "me", "moi": after "by", "to"


_PRONOUNS = (
    _Phrase("i", "je", person=0, object=("me", "moi")),
    _Phrase("you", "tu", person=1, object=("you", "toi")),
    _Phrase("he", "il", person=2, object=("him", "lui")),
    _Phrase("she", "elle", gender="f", person=2, object=("her", "elle")),
    _Phrase("we", "nous", person=3, object=("us", "nous")),
    _Phrase("they", "ils", person=4, object=("them", "eux")),
)
_DETERMINERS = (  # English, French masculine, feminine, how often
    ("the", "le", "la", 5),
    ("a", "un", "une", 4),
    ("my", "mon", "ma", 5),
    ("your", "ton", "ta", 2),
    ("his", "son", "sa", 1),
    ("her", "son", "sa", 1),
    ("our", "notre", "notre", 2),
    ("this", "ce", "cette", 2),
)
_HAVE = (("have", "ai"), ("have", "as"), ("has", "a"), ("have", "avons"), ("have", "ont"))
_GOING = (
    ("am going to", "vais"), ("are going to", "vas"), ("is going to", "va"),
    ("are going to", "allons"), ("are going to", "vont"),
)  # fmt: skip
_BE = (("am", "suis"), ("are", "es"), ("is", "est"), ("are", "sommes"), ("are", "sont"))
_MODALS = (  # English for he, English for others, French by person
    (("wants to", "want to"), ("veux", "veux", "veut", "voulons", "veulent")),
    (("would like to", "would like to"), ("voudrais", "voudrais", "voudrait", "voudrions",
                                          "voudraient")),
    (("must", "must"), ("dois", "dois", "doit", "devons", "doivent")),
    (("has to", "have to"), ("dois", "dois", "doit", "devons", "doivent")),
    (("can", "can"), ("peux", "peux", "peut", "pouvons", "peuvent")),
    (("cannot", "cannot"), ("ne peux pas", "ne peux pas", "ne peut pas", "ne pouvons pas",
                            "ne peuvent pas")),
)  # fmt: skip

_VOWEL = "aeiouyhàâéèêëîïôûœ"
_NO_VOWEL_FOLLOWS = {
    r"\b(je|ne|le|la|de|que|se|me|te) (?=[{v}])": lambda m: f"{m[1][:-1]}'",
    r"\b(m|t|s)a (?=[{v}])": lambda m: f"{m[1]}on ",
    r"\bce (?=[{v}])": lambda m: "cet ",
    r"\bvieux (?=[{v}])": lambda m: "vieil ",
    r"\bnouveau (?=[{v}])": lambda m: "nouvel ",
    r"\bde le\b": lambda m: "du",
    r"\bà le\b": lambda m: "au",
}


def agree(french: str) -> str:
    """French words as they are said together: "je ai" is "j'ai", "à le ami" is "à l'ami"."""
    for pattern, replacement in _NO_VOWEL_FOLLOWS.items():
        french = re.sub(pattern.replace("{v}", _VOWEL), replacement, french)
    return french


def sentence_pairs(
    split: str, count: int, *, seed: int = 0, invented: float = 0.12
) -> list[SentencePair]:
    """Sentences with a translation.

    Args:
        split: "train", or "test", where events and states meet things that they meet in no training
            sentence. Sentences without a thing ("it is broken") are of both splits.
        count: how many; the same pair may come twice.
        seed: another seed gives other sentences.
        invented: share of the things that are invented words.

    Raises:
        ValueError: an unknown split, a negative count, or a share outside 0 to 1.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} must be one of {', '.join(SPLITS)}")
    if count < 0:
        raise ValueError(f"count={count} must not be negative")
    if not 0 <= invented <= 1:
        raise ValueError(f"invented={invented} must lie between 0 and 1")
    chance = random.Random(f"{split} {seed}")
    return [_Writer(split, chance, invented).pair() for _ in range(count)]


def synonyms() -> list[tuple[str, str]]:
    """Pairs of single English words that the generator uses for one meaning, each way round."""
    found = []
    tables = [_THINGS, _PLACES, _OPENERS, *_ADJECTIVES.values()]
    groups = [english for table in tables for english, _ in _rows(table)]
    groups += [
        [wording.split()[1] for wording in english]
        for table in (_EVENTS, _GIVING)
        for english, _ in _rows(table)
    ]
    for group in groups:
        single = [word for word in group if re.fullmatch(r"[a-z]+", word)]
        found += [(one, other) for one in single for other in single if one != other]
    return found


@cache
def _named_rows(table: str) -> list[tuple[str, list[str], list[str]]]:
    """The rows of a table above: name ("" if it has none), English wordings, French wordings."""
    rows = []
    for line in table.replace("\n    ", " ").strip().splitlines():
        left, french = line.split("=")
        name, _, english = left.rpartition(":")
        wordings = ([part.strip() for part in side.split("|")] for side in (english, french))
        rows.append((name, *wordings))
    return rows


def _rows(table: str) -> list[tuple[list[str], list[str]]]:
    return [row[1:] for row in _named_rows(table)]


class _Writer:
    """Writes one pair: every choice of a wording is its own draw."""

    def __init__(self, split: str, chance: random.Random, invented: float):
        self.split, self.chance, self.invented = split, chance, invented

    # --- small parts

    def one(self, table: str) -> tuple[str, str]:
        english, french = self.chance.choice(_rows(table))
        return self.chance.choice(english), self.chance.choice(french)

    def subject(self) -> _Phrase:
        if self.chance.random() < 0.4:
            return self.chance.choice(_PRONOUNS)
        return self.person()

    def person(self) -> _Phrase:
        if self.chance.random() < self.invented / 2:
            name = self.chance.choice(_INVENTED)
            return _Phrase(name, name, object=(name, name))
        english, french = self.one(_PEOPLE)
        name, gender = french.rsplit(" ", 1)
        return _Phrase(english, name, gender, object=(english, name))

    def thing(self, what: str, *, definite: bool = False) -> _Phrase:
        """A thing that this split may put together with `what`."""
        if self.chance.random() < self.invented:
            nouns = (self.chance.choice(_INVENTED),) * 2
            noun = _Phrase(*nouns, self.chance.choice("mf"))
        else:
            english, french = self.chance.choice(
                [row for row in _rows(_THINGS) if self._allowed(what, row[0][0])]
            )
            name, gender = self.chance.choice(french).rsplit(" ", 1)
            noun = _Phrase(self.chance.choice(english), name, gender)
        kinds = [row for row in _DETERMINERS if not (definite and row[0] == "a")]
        the, le, la, _ = self.chance.choices(kinds, [row[-1] for row in kinds])[0]
        before, behind, adjective = "", "", ""
        if self.chance.random() < 0.3:
            where = self.chance.choice(list(_ADJECTIVES))
            adjective, french = self.one(_ADJECTIVES[where])
            form = french.split()[noun.gender == "f"] + " "
            before, behind = (form, "") if where == "before" else ("", " " + form.strip())
            adjective += " "
        french = agree(f"{la if noun.gender == 'f' else le} {before}{noun.french}{behind}")
        english = f"{the} {adjective}{noun.english}"
        if the == "a" and english[2] in "aeiou":
            english = "an" + english[1:]
        return _Phrase(english, french, noun.gender, object=(english, french))

    def _allowed(self, what: str, thing: str) -> bool:
        share = zlib.crc32(f"{what} {thing}".encode()) / 2**32
        return (share < HELD_OUT) == (self.split == "test")

    def verb(self, table: str) -> tuple[str, list[str], list[str]]:
        """Its name, English forms, French forms."""
        name, english, french = self.chance.choice(_named_rows(table))
        forms = [form.replace("+", " ") for form in self.chance.choice(english).split()]
        return name, forms, self.chance.choice(french).split()

    def place(self) -> tuple[str, str]:
        if self.chance.random() < self.invented:
            name = self.chance.choice(_INVENTED)
            return f"in {name}", f"à {name}"
        if self.chance.random() < 0.4:
            preposition, word = self.one(_PREPOSITIONS)
            if self.chance.random() < self.invented:
                preposition = word = self.chance.choice(_INVENTED)
            thing = self.thing(preposition)
            return f"{preposition} {thing.english}", f"{word} {thing.french}"
        return self.one(_PLACES)

    # --- clauses

    def event(self) -> tuple[str, str]:
        """Someone does something to a thing."""
        name, (base, past, participle), (infinitive, fait) = self.verb(_EVENTS)
        s, t = self.subject(), self.thing(name)
        have, ai = _HAVE[s.person]
        feminine = fait + "e" * (t.gender == "f")
        kind = self.chance.choices(
            ["past", "perfect", "not", "modal", "passive", "relative", "not yet", "just", "it"],
            [6, 2, 2, 3, 2, 2, 1, 1, 2],
        )[0]
        if self.chance.random() < self.invented / 2:
            made_up = self.chance.choice(_INVENTED)
            return f"{s.english} {made_up} {t.english}", f"{s.french} {made_up} {t.french}"
        if kind == "it":
            return f"{s.english} {past} it", f"{s.french} le {ai} {fait}"
        if kind == "past":
            return f"{s.english} {past} {t.english}", f"{s.french} {ai} {fait} {t.french}"
        if kind == "perfect":
            word, mot = self.chance.choice([("", ""), ("already ", "déjà "), ("", "")])
            return (
                f"{s.english} {have} {word}{participle} {t.english}",
                f"{s.french} {ai} {mot}{fait} {t.french}",
            )
        if kind == "not":
            never, jamais = self.chance.choice(
                [(f"did not {base}", "pas"), (f"{have} not {participle}", "pas"),
                 (f"never {past}", "jamais")]
            )  # fmt: skip
            return (
                f"{s.english} {never} {t.english}",
                f"{s.french} ne {ai} {jamais} {fait} {t.french}",
            )
        if kind == "not yet":
            return (
                f"{s.english} {have} not {participle} {t.english} yet",
                f"{s.french} ne {ai} pas encore {fait} {t.french}",
            )
        if kind == "just":
            venir = ("viens", "viens", "vient", "venons", "viennent")[s.person]
            return (
                f"{s.english} {have} just {participle} {t.english}",
                f"{s.french} {venir} de {infinitive} {t.french}",
            )
        if kind == "modal":
            english, french = self.modal(s)
            return f"{s.english} {english} {base} {t.english}", (
                f"{s.french} {french} {infinitive} {t.french}"
            )
        if kind == "passive":
            by, par = (f" by {s.object[0]}", f" par {s.object[1]}")
            if self.chance.random() < 0.4:
                by = par = ""
            return (
                f"{t.english} was {participle}{by}",
                f"{t.french} a été {feminine}{par}",
            )
        t = self.thing(name, definite=True)
        is_so, est = self.chance.choice(_rows(_STATES))
        feminine = fait + "e" * (t.gender == "f")
        return self.state_of(
            f"{t.english} that {s.english} {past}",
            f"{t.french} que {s.french} {ai} {feminine}",
            t.gender,
            self.chance.choice(is_so),
            self.chance.choice(est),
        )

    def modal(self, s: _Phrase) -> tuple[str, str]:
        if self.chance.random() < 0.4:
            going, vais = _GOING[s.person]
            return self.chance.choice([going, "will"]), vais
        english, french = self.chance.choice(_MODALS)
        return english[s.person != 2], french[s.person]

    def giving(self) -> tuple[str, str]:
        """Someone gives something to someone; or someone gets it."""
        name, (base, past, participle), (infinitive, fait) = self.verb(_GIVING)
        s, p, t = self.subject(), self.person(), self.thing(name)
        to, à = p.object
        have, ai = _HAVE[s.person]
        kinds = [
            (f"{s.english} {past} {t.english} to {to}", f"{s.french} {ai} {fait} {t.french} à {à}"),
            (f"{s.english} {past} {to} {t.english}", f"{s.french} {ai} {fait} {t.french} à {à}"),
            (
                f"{s.english} {have} {participle} {t.english} to {to}",
                f"{s.french} {ai} {fait} {t.french} à {à}",
            ),
            (
                f"{t.english} was {participle} to {to}",
                f"{t.french} a été {fait}{'e' * (t.gender == 'f')} à {à}",
            ),
        ]
        english, french = self.chance.choice(kinds)
        if name == "give" and self.chance.random() < 0.35:
            who, lui = s.object
            english = self.chance.choice(
                [f"{to} got {t.english} from {who}", f"{to} received {t.english} from {who}"]
            )
            if self.chance.random() < 0.5:
                french = f"{à} a reçu {t.french} de {lui}"
        elif name != "give" or self.chance.random() > 0.3:
            return english, french
        else:
            english_modal, french_modal = self.modal(s)
            english = f"{s.english} {english_modal} {base} {t.english} to {to}"
            french = f"{s.french} {french_modal} {infinitive} {t.french} à {à}"
        return english, french

    def seeking(self) -> tuple[str, str]:
        """Someone cannot find a thing: another way to say that it is lost."""
        s, t = self.subject(), self.thing("lose")
        have, ai = _HAVE[s.person]
        trouve = ("trouve", "trouves", "trouve", "trouvons", "trouvent")[s.person]
        english = [
            f"{s.english} cannot find {t.english}",
            f"{s.english} can no longer find {t.english}",
            f"{s.english} {have} lost {t.english}",
        ]
        french = [
            f"{s.french} ne {trouve} plus {t.french}",
            f"{s.french} ne {trouve} pas {t.french}",
            f"{s.french} {ai} perdu {t.french}",
        ]
        return self.chance.choice(english), self.chance.choice(french)

    def living(self) -> tuple[str, str]:
        """Someone sits, sleeps, works ... somewhere."""
        name, (base, past), (_, fait) = self.verb(_LIVING)
        s = self.person()
        fait += "e" * (s.gender == "f" and name == "sit")
        french = f"{s.french} se est {fait}" if name == "sit" else f"{s.french} a {fait}"
        where, où = self.place()
        return f"{s.english} {past} {where}", f"{french} {où}"

    def moving(self) -> tuple[str, str]:
        """Someone goes somewhere; the participle agrees with who goes."""
        went, allé = self.one(_MOVING)
        s = self.subject()
        _, est = _BE[s.person]
        allé += "e" * (s.gender == "f") + "s" * (s.person > 2)
        where, où = (
            self.one(_GOALS)
            if went in ("went", "came", "came back", "returned")
            else self.one(_PLACES)
        )
        return f"{s.english} {went} {where}", f"{s.french} {est} {allé} {où}"

    def state(self) -> tuple[str, str]:
        """Something is so."""
        name, english, french = self.chance.choice(_named_rows(_STATES))
        t = self.thing(name, definite=True)
        if self.chance.random() < 0.2:
            t = _Phrase("it", "il")
        if self.chance.random() < self.invented / 2:
            made_up = self.chance.choice(_INVENTED)
            english, french = [f"{{t}} is {made_up}"], [f"{{t}} est {made_up}"]
        return self.state_of(
            t.english, t.french, t.gender, self.chance.choice(english), self.chance.choice(french)
        )

    @staticmethod
    def state_of(english: str, french: str, gender: str, is_so: str, est: str) -> tuple[str, str]:
        feminine = gender == "f"
        est = est.replace("{neuf}", "neuve" if feminine else "neuf")
        est = est.replace("{cher_m}", "cher").replace("{cher}", "chère" if feminine else "cher")
        est = est.replace("~", "e" * feminine)
        return is_so.replace("{t}", english), est.replace("{t}", french)

    def question(self) -> tuple[str, str]:
        name, (base, past, participle), (_, fait) = self.verb(_EVENTS)
        s, t = self.subject(), self.thing(name)
        have, ai = _HAVE[s.person]
        english, french = self.chance.choice(
            [
                (f"did {s.english} {base} {t.english}",
                 f"est-ce que {s.french} {ai} {fait} {t.french}"),
                (f"{have} {s.english} {participle} {t.english}",
                 f"est-ce que {s.french} {ai} {fait} {t.french}"),
                (f"who {past} {t.english}", f"qui a {fait} {t.french}"),
                (f"who has {participle} {t.english}", f"qui a {fait} {t.french}"),
                (f"where did {s.english} {base} {t.english}",
                 f"où est-ce que {s.french} {ai} {fait} {t.french}"),
                (f"when did {s.english} {base} {t.english}",
                 f"quand est-ce que {s.french} {ai} {fait} {t.french}"),
                (f"why did {s.english} {base} {t.english}",
                 f"pourquoi est-ce que {s.french} {ai} {fait} {t.french}"),
                (f"can you {base} {t.english}", f"peux-tu {self._infinitive(fait)} {t.french}"),
            ]
        )  # fmt: skip
        return english + "?", french + "?"

    @staticmethod
    def _infinitive(participle: str) -> str:
        for table in (_EVENTS, _GIVING):
            for _, french in _rows(table):
                for wording in french:
                    if wording.split()[1] == participle:
                        return wording.split()[0]
        raise KeyError(participle)

    # --- sentences

    def clause(self) -> tuple[str, str]:
        """One clause, perhaps with a place or a time behind it."""
        make = self.chance.choices(
            [self.event, self.giving, self.seeking, self.living, self.moving, self.state],
            [9, 3, 1, 1, 1, 4],
        )[0]
        english, french = make()
        if make in (self.event, self.giving, self.seeking) and self.chance.random() < 0.3:
            where, où = self.place()
            english, french = f"{english} {where}", f"{french} {où}"
        if make != self.state and self.chance.random() < 0.3:
            later = re.search(r"\b(will|going to|must|can|cannot|has to|want)\b", english)
            when, quand = self.one(_LATER if later else _TIMES)
            if self.chance.random() < 0.3:
                return f"{when} {english}", f"{quand} {french}"
            english, french = f"{english} {when}", f"{french} {quand}"
        return english, french

    def pair(self) -> SentencePair:
        kind = self.chance.choices(["clause", "opened", "joined", "question"], [5, 2, 3, 2])[0]
        english, french = self.question() if kind == "question" else self.clause()
        if kind == "opened":
            opener, ouverture = self.one(_OPENERS)
            if self.chance.random() < self.invented:
                opener = ouverture = self.chance.choice(_INVENTED)
            english, french = f"{opener} {english}", f"{ouverture} {french}"
        if kind == "clause" and self.chance.random() < self.invented / 2:
            last = self.chance.choice(_INVENTED)
            english, french = f"{english} {last}", f"{french} {last}"
        if kind == "joined":
            more, plus = self.clause()
            link, lien = self.one(_LINKS)
            if self.chance.random() < self.invented:
                link = lien = self.chance.choice(_INVENTED)
            english, french = f"{english} {link} {more}", f"{french} {lien} {plus}"
        return SentencePair(english, agree(french))
