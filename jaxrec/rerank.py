"""Choose a list from a larger set of candidates, for diversity, quotas and exploration."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

_USERS_AT_ONCE = 256


@dataclass(frozen=True)
class Quota:
    """A limit on how many items of one list may have the same value in a column of item data.

    Attributes:
      code_I: [I] each item's value as a number; -1 exempts an item.
      most: largest number of items with the same value.
    """

    code_I: np.ndarray
    most: int


@dataclass(frozen=True)
class Rerank:
    """How to choose each user's list from the candidates with the best scores.

    Attributes:
      diversity: weight λ of maximal marginal relevance (Carbonell & Goldstein 1998). Each rank gets
        the candidate i with the greatest (1 - λ) s_i - λ max_j cos(i, j), where j are the items
        chosen so far, and s is the score scaled to 0..1 over the user's candidates. 0 keeps the
        order.
      quotas: quotas that every list must meet.
      noise: standard deviation of normal noise on the scores, in standard deviations of the user's
        candidates. It is drawn from the seed and the user's id.
      seed: seed of the noise.
      candidates: number of candidates per item of a list.
    """

    diversity: float = 0.0
    quotas: tuple[Quota, ...] = ()
    noise: float = 0.0
    seed: int = 0
    candidates: int = 10

    @property
    def changes(self) -> bool:
        """Whether lists may differ from the k best."""
        return bool(self.diversity or self.quotas or self.noise)

    def pool(self, k: int, n_items: int) -> int:
        """Return the number of candidates for a list of k items.

        It is k if lists are the k best items, or else at least 100, but at most ``n_items``.
        """
        return min(max(self.candidates * k, 100), n_items) if self.changes else k

    def choose(
        self,
        users: Sequence[str],
        item_nC: Int32[np.ndarray, "n C"],
        score_nC: Float32[np.ndarray, "n C"],
        k: int,
        item_ID: Float32[np.ndarray, "I D"],
    ) -> tuple[Int32[np.ndarray, "n k"], Float32[np.ndarray, "n k"]]:
        """Choose lists of k items, best first.

        Args:
          users: [n] ids, from which the noise is drawn.
          item_nC, score_nC: candidates and their scores, best first, padded with -1 and -inf.
          item_ID: vectors whose cosines measure similarity.

        Returns:
          Items [n, k] and their scores without noise, padded with -1 and -inf where the quotas
          leave fewer than k.
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
            filled = place_Bk >= 0
            item_nk[block] = np.where(filled, items[row_B1, place_Bk], -1)
            score_nk[block] = np.where(filled, scores[row_B1, place_Bk], -np.inf)
        return item_nk, score_nk

    def _noise(self, users: Sequence[str], score_BC: np.ndarray) -> np.ndarray:
        if not self.noise:
            return np.zeros_like(score_BC)
        valid = np.isfinite(score_BC)
        finite_BC = np.where(valid, score_BC, 0)
        count_B1 = np.maximum(valid.sum(1, keepdims=True), 1)
        mean_B1 = finite_BC.sum(1, keepdims=True) / count_B1
        std_B1 = np.sqrt((np.where(valid, finite_BC - mean_B1, 0) ** 2).sum(1, keepdims=True))
        std_B1 /= np.sqrt(count_B1)
        normal = [
            np.random.default_rng([self.seed, zlib.crc32(user.encode())]).standard_normal(
                score_BC.shape[1], np.float32
            )
            for user in users
        ]
        return (self.noise * std_B1 * np.stack(normal)).astype(np.float32)

    def _greedy(
        self, item_BC: np.ndarray, gain_BC: np.ndarray, k: int, item_ID: np.ndarray
    ) -> np.ndarray:
        """Choose candidates for one rank after another; return their indices [B, k].

        The index is -1 if quotas allow no further candidate, or if there is none.
        """
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
    """Scale each row's scores to 0..1; padding gets 0."""
    valid = np.isfinite(score_BC)
    low_B1 = np.where(valid, score_BC, np.inf).min(axis=1, keepdims=True)
    high_B1 = np.where(valid, score_BC, -np.inf).max(axis=1, keepdims=True)
    range_B1 = np.where(high_B1 > low_B1, high_B1 - low_B1, np.float32(1))
    return np.where(valid, (score_BC - low_B1) / range_B1, 0).astype(np.float32)
