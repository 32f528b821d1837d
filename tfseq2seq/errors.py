"""The error a user can act on."""


class UserError(ValueError):
    """Something in what the user gave is wrong: a recipe, a file, an option.

    The message says what is wrong, where, and how to put it right. The command line prints it as one line
    and exits with code 2; the Python API raises it.
    """
