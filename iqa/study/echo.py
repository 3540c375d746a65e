"""What messages repeat of their input: short, on one line, and found without writing a large value out."""

import reprlib
from collections.abc import Iterable

LONGEST = 80  # characters of the input that a message repeats


def quoted(value: object) -> str:
    """A value as Python writes it, cut to `LONGEST` characters, with line breaks and control characters escaped.

    >>> quoted("a\\nb")
    "'a\\\\nb'"
    >>> quoted([0.5] * 100_000)
    '[0.5, 0.5, 0.5, 0.5, ...]'
    """
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 2, LONGEST, LONGEST
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = 4
    try:
        return cut(short.repr(value))
    except ValueError:  # Python writes no number of more than some thousand digits
        return f"a very large {type(value).__name__}"


def cut(text: str) -> str:
    """A text of at most `LONGEST` characters; dots stand for what is left out."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def some(names: Iterable[str], most: int = 5, between: str = "; ") -> str:
    """The first few names on one line, and how many there are in all where there are more."""
    names = list(names)
    return between.join(names[:most]) + (f"{between}... ({len(names)} in all)" if len(names) > most else "")


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names with commas between them, `none` if there are none; dots stand for further ones."""
    names = list(names)
    return ", ".join([*names[:most], *["..."] * (len(names) > most)]) or "none"
