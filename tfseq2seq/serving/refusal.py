"""Why a request gets no answer."""

from __future__ import annotations


class Refusal(Exception):
    """A request that is answered with an HTTP error.

    Args:
        code: HTTP status, as 404.
        message: one line: what is wrong and what is expected; the body's "error".
        retry_after: seconds after which the same request may succeed; 0 where trying again is of no use.
    """

    def __init__(self, code: int, message: str, retry_after: int = 0):
        super().__init__(message)
        self.code, self.message, self.retry_after = code, message, retry_after
