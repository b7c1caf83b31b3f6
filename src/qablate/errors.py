"""Errors meant for people: one line that names the file, key or value and what is allowed."""


class QablateError(Exception):
    """Bad input or a state that a person has to settle; the command line prints it and exits with `exit_code`."""

    exit_code = 2

    def __str__(self) -> str:
        """The message in one line that any terminal can show, whatever a file put into it."""
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in super().__str__())


class MachineError(QablateError):
    """The machine failed, not the input: no space, no memory, no permission. The same command may work later."""

    exit_code = 1
