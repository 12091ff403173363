"""The one error that is meant for a person: a line that says what is wrong and what to do."""


class UserError(Exception):
    """Something the user can mend; the command prints it without a traceback and exits with 1."""
