"""Limits on the size of requests."""

from dataclasses import dataclass

ID_LENGTH = 512
"""Most characters of an id, a condition or a search text."""


@dataclass(frozen=True)
class Limits:
    """Limits of a request.

    Attributes:
      k: greatest length of a list.
      ids: most ids in a basket or a list of items to deny.
      batch: most requests in one call of /batch.
      body: most bytes of a body.
      body_seconds: longest time for a body to arrive.
      pending: most queries that may wait to be ranked; further requests get status 503.
    """

    k: int = 200
    ids: int = 1000
    batch: int = 256
    body: int = 1 << 20
    body_seconds: float = 10.0
    pending: int = 4096
