"""What a user can get wrong; `main.py` prints the message alone, without a traceback."""


class UserError(Exception):
    """A mistake that its message explains: what was found, what was expected, what to change."""


class ConfigError(UserError):
    """A config field has a value that cannot be."""
