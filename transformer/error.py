"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A user's mistake, told in one sentence: what is wrong, where, both values, what to do.

    Commands print the sentence and exit with code 2; nobody else catches it.
    """
