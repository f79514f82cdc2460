"""The package's exceptions."""

__all__ = ["BayesPMMError", "InputError"]


class BayesPMMError(Exception):
    """Base class of every error that the package raises on purpose."""


class InputError(BayesPMMError, ValueError):
    """Bad input from the user.

    The message is one line that says what is wrong, where, and what to do. The command line prints it and
    ends with exit code 2.
    """
