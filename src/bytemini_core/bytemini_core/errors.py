"""The errors that are the user's to mend."""


class UserError(Exception):
    """Bad input or a machine that lacks something: the message says what was wrong, what was expected, what to do.

    The command line prints it as one line without a traceback and exits with code 2.
    """
