"""What all settings are made of: their base, and the kinds of names in them."""

from collections.abc import Hashable, Iterator
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

T = TypeVar("T", bound=Hashable)

# What each pattern allows, for the message to whom it refuses.
PATTERNS: dict[str, str] = {}


def matching(pattern: str, meaning: str) -> StringConstraints:
    """Return the constraint of names by a pattern; ``meaning`` completes "expected ..."."""
    PATTERNS[pattern] = meaning
    return StringConstraints(pattern=pattern)


NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
DATE = r"^(latest|[0-9]{8})$"
_LETTERS = "a name of small letters, digits, '.', '_' and '-' (64 at most)"

Name = Annotated[str, matching(NAME, _LETTERS)]
# A student, or one of its further seeds of distillation: `small`, `small@2`.
StudentName = Annotated[str, matching(NAME.replace("$", "(@[0-9]+)?$"), _LETTERS)]
CorpusName = Annotated[
    str, matching(r"^[a-z][a-z0-9-]{0,63}$", "a name of small letters, digits and '-' (64 at most)")
]
ExperimentName = Annotated[
    str,
    matching(
        r"^[a-z0-9][a-z0-9_-]{0,63}$", "a name of small letters, digits, '_' and '-' (64 at most)"
    ),
]
# Control characters and line ends of all kinds.
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_LINE = rf"[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*"
Line = Annotated[str, matching(f"^{_LINE}$", "text on one line")]
Label = Annotated[str, matching(f"^({_LINE})?$", "text on one line, or nothing")]
Text = Annotated[str, matching(r"^[^\x00-\x08\x0b-\x1f\x7f]*$", "text")]
# Snakemake takes "{" in a path for a wildcard.
FilePath = Annotated[
    str, matching(rf"^[^{_CONTROL}{{}}]+$", "a path on one line, without '{' and '}'")
]
WikiName = Annotated[str, matching(r"^[a-z0-9_]+$", "a database, as cywiki")]
Commit = Annotated[str, matching(r"^[0-9a-f]{40}$", "a commit of 40 hexadecimal digits")]


def _in_calendar(date: str) -> str:
    if date != "latest":
        try:
            datetime.strptime(date, "%Y%m%d")
        except ValueError:
            raise ValueError(f"there is no such day, {date}") from None
    return date


Date = Annotated[
    str,
    matching(DATE, 'latest, or a date in quotes as "20260501"'),
    AfterValidator(_in_calendar),
]
Threads = Annotated[int, Field(ge=1, le=1024)]
# An id on the hub. Its parts neither begin nor end with a dot, so that none is a path.
HUB_ID = r"^(\b[\w.-]{1,96}\b/)?\b[\w.-]{1,96}\b$"


def without_password(address: str) -> str:
    """Return an address; raise ValueError, which does not show it, if a password is in it."""
    try:
        parts = urlsplit(address)
        found, _ = parts.password, parts.port
    except ValueError as error:
        raise ValueError(f"expected an address ({error})") from None
    if found is not None:
        raise ValueError(
            "a password in an address would be written into results and logs; take it out, and "
            "put it into ~/.netrc"
        )
    return address


WebAddress = Annotated[Line, AfterValidator(without_password)]


def _each_once(values: list[T]) -> list[T]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value!r} is there twice")
    return values


Once = Annotated[
    list[T], AfterValidator(_each_once), Field(json_schema_extra={"uniqueItems": True})
]
# The largest seed of numpy, and more than any size that a tensor can have.
LARGEST = 2**32 - 1
Seed = Annotated[int, Field(ge=0)]


# The keys that lead to a mistake, and what is said of it.
Problem = tuple[tuple[int | str, ...], str]


def too_large(settings: BaseModel) -> Iterator[Problem]:
    """Yield the numbers, also in lists and mappings, that are larger than any seed or size."""
    for key, value in settings:
        if any(number > LARGEST for number in numbers_in(value)):
            yield (key,), f"expected at most {LARGEST}, found {value!r:.40}"


def numbers_in(value: Any) -> Iterator[float]:
    """Yield a number, or those in a list or the values of a mapping."""
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(each)


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values are never changed."""

    # Built at the first use: a stage uses few of the many settings.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        defer_build=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    def problems(self) -> Iterator[Problem]:
        """Yield what does not belong together among keys that are right by themselves."""
        return iter(())

    @model_validator(mode="after")
    def _check(self) -> Self:
        if found := [*too_large(self), *self.problems()]:
            said = "; ".join(message for _, message in found)
            raise PydanticCustomError("problems", said, {"found": found})
        return self


class Sourced(Settings):
    """An entry whose source or kind says which of its keys are read."""

    by: ClassVar[str] = "source"
    # For each source or kind: the keys that it needs, and those that it may have beside what all
    # have.
    reads: ClassVar[dict[str, tuple[str, str]]]

    def problems(self) -> Iterator[Problem]:
        """Yield the keys that the source needs and has not, and those of other sources."""
        kind = getattr(self, self.by)
        needed, possible = map(str.split, self.reads[kind])
        for key in needed:
            if self.lacks(key):
                yield (), f"{self.by} {kind} needs the key {key!r}"
        others = {key for keys in self.reads.values() for key in " ".join(keys).split()}
        for key, field in type(self).model_fields.items():
            unread = key in others - {*needed, *possible}
            if unread and getattr(self, key) != field.default:
                yield (key,), f"{self.by} {kind} does not read this key; remove it"

    def lacks(self, key: str) -> bool:
        """Return whether a key is needed and not given."""
        return not getattr(self, key)
