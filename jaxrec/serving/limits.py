"""What a server takes from a request, and how much of it."""

from dataclasses import dataclass

ID_LENGTH = 512
"""Characters of an id, a condition or a search."""


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for.

    Attributes:
      k: the longest list.
      ids: ids in a basket, or in a list of items to deny.
      batch: requests in one call of /batch.
      body: bytes of a body.
      body_seconds: the time that a body may take to arrive.
      pending: queries that may wait to be ranked; with more, requests get 503.
    """

    k: int = 200
    ids: int = 1000
    batch: int = 256
    body: int = 1 << 20
    body_seconds: float = 10.0
    pending: int = 4096
