"""The exception for requests that are answered with an HTTP error."""

from __future__ import annotations


class Refusal(Exception):
    """A request that is answered with an HTTP error.

    Args:
        code: the HTTP status, for example 404.
        message: one line that says what is wrong and what is expected. It is the "error" of the response body.
        retry_after: the number of seconds after which the same request may succeed; 0 if a retry is useless.
    """

    def __init__(self, code: int, message: str, retry_after: int = 0):
        super().__init__(message)
        self.code, self.message, self.retry_after = code, message, retry_after
