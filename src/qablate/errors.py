"""Errors meant for people: one line that names the file, key or value and what is allowed."""

import difflib
from collections.abc import Iterable

LONGEST_LINE = 500


def one_line(text: str) -> str:
    """Return a text as one line of at most LONGEST_LINE characters that any terminal can show."""
    if len(text) > LONGEST_LINE:
        text = text[: LONGEST_LINE - 4] + " ..."
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 4] + " ..."


def suggestion(key: str, known: Iterable[str]) -> str:
    """Return what to write in place of an unknown word: the closest known one, else all of them."""
    close = difflib.get_close_matches(key, known := list(known), n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known) or 'none'}"


class QablateError(Exception):
    """Bad input or a state that a person has to settle; the command line prints it and exits with `exit_code`."""

    exit_code = 2

    def __str__(self) -> str:
        """The message in one line, whatever a file put into it."""
        return one_line(super().__str__())


class ConfigError(QablateError):
    """A setting that the study cannot be run with."""


class MachineError(QablateError):
    """The machine failed, not the input: no space, no memory, no permission. The same command may work later."""

    exit_code = 1
