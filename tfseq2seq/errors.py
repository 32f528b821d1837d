"""The error a user can act on, and what others say in one line."""


class UserError(ValueError):
    """Something in what the user gave is wrong: a recipe, a file, an option.

    The message says what is wrong, where, and how to put it right. The command line prints it as one line
    and exits with code 2; the Python API raises it.
    """


def first_line(error: BaseException) -> str:
    """The first line of what an error of a library says, of at most 200 letters; the name of its class if it says
    nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
