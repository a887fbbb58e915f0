"""What a user can get wrong; `main.py` prints the message alone, without a traceback."""


class UserError(Exception):
    """A mistake that its message explains: what was found, what was expected, what to change."""


class ConfigError(UserError):
    """A config field has a value that cannot be."""


class DataError(UserError):
    """A mistake in a dataset, a table or a folder of pictures."""


class WeightsError(UserError):
    """Weights that cannot be used as asked."""


class SearchError(UserError):
    """An index, its model or a query that cannot be used as asked."""


class Interrupted(Exception):
    """The run was asked to stop by SIGTERM and did, at a step boundary, everything saved."""

    def __init__(self, step: int):
        super().__init__(f'stopped by SIGTERM after step {step:,}, which is saved; the same command goes on from there')
        self.step = step
