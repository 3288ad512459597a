"""The three invented languages: letters, phonotactics, endings and word order."""

from dataclasses import dataclass

from demo_languages.draw import Draw

NUMBERS = ("Sing", "Plur")
CASES = ("Nom", "Acc")


@dataclass(frozen=True)
class Language:
    """What is fixed about a language; its words are drawn (see ``lexicon``).

    ``endings`` holds, for each gender, the four endings Sing.Nom, Plur.Nom, Sing.Acc, Plur.Acc.
    Nouns, adjectives, determiners and verbs share them, so that an ending alone does not tell the
    part of speech. Stems end in a consonant, endings begin with a vowel (or vowel sign).
    """

    code: str
    name: str
    onsets: tuple[str, ...]
    nuclei: tuple[str, ...]
    codas: tuple[str, ...]
    initials: tuple[str, ...]
    endings: dict[str, tuple[str, str, str, str]]
    name_endings: dict[str, tuple[str, ...]]
    digits: str
    full_stop: str
    quotes: tuple[str, str]
    orders: tuple[str, ...]
    postpositions: bool
    auxiliary_last: bool
    adjective_first: float
    determiner: float
    capitals: bool

    def stem(self, draw: Draw, syllables: int) -> str:
        """Return a stem of that many syllables and a closing consonant."""
        parts = []
        if draw.chance(0.12):
            parts.append(draw.pick(self.initials))
        for position in range(syllables):
            parts.append(draw.pick(self.onsets) + draw.pick(self.nuclei))
            if position + 1 < syllables and draw.chance(0.2):
                parts.append(draw.pick(self.codas))
        return "".join(parts) + self.onsets[draw.between(0, self.simple_onsets - 1)]

    def particle(self, draw: Draw) -> str:
        """Return a short word that does not inflect."""
        first = draw.pick(self.initials) if draw.chance(0.3) else ""
        core = draw.pick(self.onsets) + draw.pick(self.nuclei)
        return first + core + (draw.pick(self.codas) if draw.chance(0.4) else "")

    @property
    def simple_onsets(self) -> int:
        """Return how many onsets are single consonants (they stand first)."""
        return sum(len(onset) == 1 for onset in self.onsets)

    def number(self, value: int) -> str:
        """Return a whole number in the digits of the language."""
        return "".join(self.digits[int(digit)] for digit in str(value))

    def capitalised(self, word: str) -> str:
        """Return a name with its capital letter, in scripts that have capitals.

        Names alone have one: sentences begin with none.
        """
        return word[:1].upper() + word[1:] if self.capitals else word


def spaced(letters: str) -> tuple[str, ...]:
    """Return letters and clusters that are written with spaces between them."""
    return tuple(letters.split())


LATIN = Language(
    code="qaa",
    name="Lavenga",
    onsets=spaced("b d f g k l m n p r s t v z š č ñ tr pl st kr br"),
    nuclei=("a", "e", "i", "o", "u", "ä", "ö", "ei"),
    codas=("n", "r", "l", "s", "m"),
    initials=("a", "e", "i", "o", "u"),
    endings={"Masc": ("o", "u", "o", "u"), "Fem": ("a", "e", "a", "e")},
    name_endings={
        "first": ("o", "a", "is", ""),
        "last": ("en", "ar", "o", "a"),
        "place": ("a", "en", "o", ""),
    },
    digits="0123456789",
    full_stop=".",
    quotes=("“", "”"),
    orders=("SVO",),
    postpositions=False,
    auxiliary_last=False,
    adjective_first=0.95,
    determiner=0.5,
    capitals=True,
)

CYRILLIC = Language(
    code="qab",
    name="Дровіна",
    onsets=spaced("б в г д ж з к л м н п р с т х ц ч ш вр ст пл гр"),
    nuclei=("а", "е", "и", "о", "у", "я", "і", "ю"),
    codas=("н", "р", "л", "с", "й"),
    initials=("а", "о", "у", "і"),
    endings={
        "Masc": ("ы", "и", "ом", "им"),
        "Fem": ("а", "и", "ой", "им"),
        "Neut": ("о", "и", "у", "им"),
    },
    name_endings={
        "first": ("а", "о", "ий", ""),
        "last": ("ко", "ы", "а", "о"),
        "place": ("о", "а", "ы", ""),
    },
    digits="0123456789",
    full_stop=".",
    quotes=("«", "»"),
    orders=("SVO", "SVO", "SVO", "SVO", "OVS"),
    postpositions=False,
    auxiliary_last=False,
    adjective_first=0.95,
    determiner=0.4,
    capitals=True,
)

DEVANAGARI = Language(
    code="qac",
    name="मरुली",
    onsets=spaced("क ख ग घ च ज ट ड त द न प ब भ म य र ल व श स ह प्र स्त क्र न्द"),
    nuclei=("", "ा", "ि", "ी", "ु", "ू", "े", "ो", "ै"),
    codas=("ं", "न", "र", "ल"),
    initials=("अ", "आ", "इ", "उ", "ए"),
    endings={"Masc": ("ा", "े", "ा", "े"), "Fem": ("ी", "ि", "ी", "ि")},
    name_endings={
        "first": ("ा", "ी", "", "ू"),
        "last": ("े", "ी", "कर", ""),
        "place": ("ी", "ा", "", "े"),
    },
    digits="०१२३४५६७८९",
    full_stop="।",
    quotes=("“", "”"),
    orders=("SOV",),
    postpositions=True,
    auxiliary_last=True,
    adjective_first=1.0,
    determiner=0.3,
    capitals=False,
)

LANGUAGES = {language.code: language for language in (LATIN, CYRILLIC, DEVANAGARI)}
