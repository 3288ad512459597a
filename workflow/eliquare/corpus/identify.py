"""Whether a document is in another language than it should be, by py3langid.

py3langid (BSD; a naive Bayes classifier, its model in the package) knows 139 languages. It is sure
of a paragraph in most of them; close ones (Bosnian, Croatian, Serbian; Indonesian, Malay) it often
takes for each other.
"""

from functools import cache
from typing import TYPE_CHECKING

from eliquare.io import InputError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# A document is judged by its first characters, and is another language's above this probability.
CHARACTERS = 1000
PROBABILITY = 0.5
# What the classifier calls numbers, markup and the like.
NO_LANGUAGE = "zxx"


@cache
def identifier() -> "LanguageIdentifier":
    """Return the classifier, which takes two seconds to load."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def require_known(code: str) -> None:
    """Raise InputError where the classifier does not know a language."""
    known = sorted({*identifier().labels} - {NO_LANGUAGE})
    if code not in known:
        raise InputError(
            f"identify: the identification of languages does not know {code!r}; remove identify "
            f"(known are {', '.join(known)})"
        )


def is_another_language(text: str, code: str) -> bool:
    """Return whether a text is identified as another language than ``code``, or as none."""
    found, probability = identifier().classify(text[:CHARACTERS])
    return bool(found != code and probability > PROBABILITY)
