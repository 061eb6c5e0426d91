"""Choosing a list among more candidates than it has room for: diversity, quotas, exploration."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

_USERS_AT_ONCE = 256


@dataclass(frozen=True)
class Quota:
    """At most so many items of each value of a column in a list.

    Attributes:
      code_I: [I] the value of each item, by number; of items with -1 any number may be there.
      most: of one value.
    """

    code_I: np.ndarray
    most: int


@dataclass(frozen=True)
class Rerank:
    """How a list is chosen among its candidates, the best by score of each user.

    Attributes:
      diversity: weight λ of maximal marginal relevance (Carbonell & Goldstein 1998): at each rank
        the candidate i with the greatest (1 - λ) s_i - λ max_j cos(i, j) is taken, over the items j
        taken so far; s runs from 0 to 1 over the candidates. 0 leaves the order as it is.
      quotas: each holds.
      noise: exploration: normal noise is added to the scores, of so many standard deviations of
        the user's candidates' scores, drawn from the seed and the user's id.
      seed: of the noise.
      candidates: how many there are for each place of a list.
    """

    diversity: float = 0.0
    quotas: tuple[Quota, ...] = ()
    noise: float = 0.0
    seed: int = 0
    candidates: int = 10

    @property
    def changes(self) -> bool:
        """Whether any list differs from the k best."""
        return bool(self.diversity or self.quotas or self.noise)

    def pool(self, k: int, n_items: int) -> int:
        """How many candidates a list of k is chosen among; no fewer than 100."""
        return min(max(self.candidates * k, 100), n_items) if self.changes else k

    def choose(
        self,
        users: Sequence[str],
        item_nC: Int32[np.ndarray, "n C"],
        score_nC: Float32[np.ndarray, "n C"],
        k: int,
        item_ID: Float32[np.ndarray, "I D"],
    ) -> tuple[Int32[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
        """Lists of k, best first.

        Args:
          users: [n] ids, which the noise is drawn by.
          item_nC, score_nC: the candidates, best first; -1 past the last.
          item_ID: vectors, whose cosines say how alike items are.

        Returns:
          Items, and their scores without noise; -1 and -inf where quotas leave none.
        """
        if not self.changes:
            return item_nC[:, :k], score_nC[:, :k]
        item_nk = np.full((len(item_nC), k), -1, np.int32)
        score_nk = np.full((len(item_nC), k), -np.inf, np.float32)
        for start in range(0, len(item_nC), _USERS_AT_ONCE):
            block = slice(start, start + _USERS_AT_ONCE)
            items, scores = item_nC[block], score_nC[block]
            gain_BC = _relevance(scores + self._noise(users[block], scores))
            place_Bk = self._greedy(items, gain_BC, k, item_ID)
            row_B1 = np.arange(len(items))[:, None]
            there = place_Bk >= 0
            item_nk[block] = np.where(there, items[row_B1, place_Bk], -1)
            score_nk[block] = np.where(there, scores[row_B1, place_Bk], -np.inf)
        return item_nk, score_nk

    def _noise(self, users: Sequence[str], score_BC: np.ndarray) -> np.ndarray:
        if not self.noise:
            return np.zeros_like(score_BC)
        there = np.isfinite(score_BC)
        known = np.where(there, score_BC, 0)
        count_B1 = np.maximum(there.sum(1, keepdims=True), 1)
        mean_B1 = known.sum(1, keepdims=True) / count_B1
        spread_B1 = np.sqrt((np.where(there, known - mean_B1, 0) ** 2).sum(1, keepdims=True))
        spread_B1 /= np.sqrt(count_B1)
        drawn = [
            np.random.default_rng([self.seed, zlib.crc32(user.encode())]).standard_normal(
                score_BC.shape[1], np.float32
            )
            for user in users
        ]
        return (self.noise * spread_B1 * np.stack(drawn)).astype(np.float32)

    def _greedy(
        self, item_BC: np.ndarray, gain_BC: np.ndarray, k: int, item_ID: np.ndarray
    ) -> np.ndarray:
        """[B, k] the candidate that each rank takes; -1 where none is left."""
        row_B, weight = np.arange(len(item_BC)), np.float32(self.diversity)
        open_BC = item_BC >= 0
        unit_BCD = None
        if weight:
            unit_BCD = item_ID[np.maximum(item_BC, 0)]
            norm = np.linalg.norm(unit_BCD, axis=2, keepdims=True)
            unit_BCD = unit_BCD / np.where(norm > 0, norm, np.float32(1))
        near_BC = np.zeros_like(gain_BC)
        code_QBC = [quota.code_I[item_BC] for quota in self.quotas]
        taken_QBC = [np.zeros(item_BC.shape, np.int32) for _ in self.quotas]
        place_Bk = np.full((len(item_BC), k), -1, np.int64)
        for rank in range(k):
            value_BC = (1 - weight) * gain_BC - weight * near_BC
            best_B = np.where(open_BC, value_BC, -np.inf).argmax(axis=1)
            left_B = open_BC[row_B, best_B]
            if not left_B.any():
                break
            place_Bk[left_B, rank] = best_B[left_B]
            open_BC[row_B, best_B] = False
            if unit_BCD is not None:
                cosine_BC = np.einsum("bcd,bd->bc", unit_BCD, unit_BCD[row_B, best_B])
                near_BC = cosine_BC if rank == 0 else np.maximum(near_BC, cosine_BC)
            for quota, code_BC, taken_BC in zip(self.quotas, code_QBC, taken_QBC, strict=True):
                code_B = code_BC[row_B, best_B]
                taken_BC += (code_BC == code_B[:, None]) & left_B[:, None]
                open_BC &= (taken_BC < quota.most) | (code_BC < 0)
        return place_Bk


def _relevance(score_BC: np.ndarray) -> np.ndarray:
    """Scores from 0 to 1 over each row's candidates; 0 past the last."""
    there = np.isfinite(score_BC)
    low_B1 = np.where(there, score_BC, np.inf).min(axis=1, keepdims=True)
    high_B1 = np.where(there, score_BC, -np.inf).max(axis=1, keepdims=True)
    span_B1 = np.where(high_B1 > low_B1, high_B1 - low_B1, np.float32(1))
    return np.where(there, (score_BC - low_B1) / span_B1, 0).astype(np.float32)
