"""Errors meant for people: one line that names the file, key or value and what is allowed."""


class QablateError(Exception):
    """Bad input or a state that a person has to settle; the command line prints it and exits with code 2."""
