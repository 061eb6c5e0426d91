"""Graph filters: closed-form item scores from a user's row of interactions.

Let R [U, I] be the interactions, R~ = D_u^-a R D_i^-(1-a) the interactions normalised by the
degrees of users and items, and P = R~ᵀ R~ [I, I]. Every filter in this module scores a row r of R
by

    y = out ∘ q(P) (in ∘ r) + V' diag(gain) V'ᵀ (ratio ∘ r)

q is a polynomial of low degree, in and out are powers of the items' degrees, and V' holds the D
leading right singular vectors of R~, scaled by item. No array has items x items entries: a product
with P is two sparse products. Only EASE needs such an array, in ``weight_II``.

A filter may be blended with votes of similar users, whose similarity is raised to a power s
(:class:`Neighbours`):

    n = D_i^-m Rᵀ (R~ r)^s        blended = y / std(y) + weight · n / std(n)

The standard deviations are taken over the items that r lacks, for each user separately. With s = 1,
n is one more linear filter of r. With s > 1, the few users who share most of r count more than the
many users who share one popular item; no polynomial of P can do that. EASE's scores can be blended
in the same way.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.polynomial import Polynomial, chebyshev

from jaxrec.data.dataset import Csr, Dataset
from jaxrec.graph import buckets, spmm
from jaxrec.graph.buckets import Buckets
from jaxrec.graph.spmm import Edges, edge_product

# The numbers of rounds and of extra vectors of the subspace iteration.
_ROUNDS, _SPARE = 3, 16
_DROWNS = 1e-6  # eigenvalues below this share of the largest one are rounding errors of float32
_CLOSE = 400  # number of points at which one polynomial is fitted to another


class Neighbours(NamedTuple):
    """The votes of similar users in a blended filter; the module's docstring has the formula.

    Attributes:
      user_U, item_I: factors with D_i^-m Rᵀ = diag(item) R~ᵀ diag(user).
      blend: the weight of the votes and the power s, [2].
    """

    user_U: np.ndarray
    item_I: np.ndarray
    blend: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by their names in RUN/filter.npz."""
        return {f"neighbour_{name}": x for name, x in self._asdict().items()}


class Filter(NamedTuple):
    """A fitted filter: all arrays that are needed to score, in host memory.

    Attributes:
      indptr, indices: the train items of each user, [U + 1] and [E].
      coefficient_K: coefficients c_k of q(P) = Σ_k c_k T_k(1 - 2 P) in Chebyshev polynomials T_k.
      item_ID: V'; it has no columns if there is no spectral part.
      gain_D: the gain in the module's formula.
      user_U, item_I: the factors of R~ = diag(user) R diag(item).
      in_I, out_I, ratio_I: in, out and ratio in the module's formula.
      weight_E: the weights of the interactions; None if all are 1.
      weight_II: EASE's item-to-item weights, by row; None for filters without EASE.
      ease_weight: the weight of EASE's scores in a blend with this filter's scores, [1]; None
        without a blend. If it is None and ``weight_II`` is given, the scores are EASE's alone.
      neighbours: the votes of similar users; None for a filter without them.
    """

    indptr: np.ndarray
    indices: np.ndarray
    coefficient_K: np.ndarray
    item_ID: np.ndarray
    gain_D: np.ndarray
    user_U: np.ndarray
    item_I: np.ndarray
    in_I: np.ndarray
    out_I: np.ndarray
    ratio_I: np.ndarray
    weight_E: np.ndarray | None = None
    weight_II: np.ndarray | None = None
    ease_weight: np.ndarray | None = None
    neighbours: Neighbours | None = None

    @property
    def pairs(self) -> "Weighted":
        """The interactions with their weights."""
        return Weighted(Csr(self.indptr, self.indices), self.weight_E)

    @property
    def degree_I(self) -> np.ndarray:
        """The sums of the items' weights in the interactions."""
        return np.bincount(self.indices, self.weight_E, len(self.in_I)).astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of RUN/filter.npz, by name; ``item_ID`` is in embeddings.npz."""
        apart = ("item_ID", "neighbours")
        named = {n: x for n, x in self._asdict().items() if x is not None and n not in apart}
        return named if self.neighbours is None else named | self.neighbours.arrays()

    def vectors(self, history: Csr, weight_E: np.ndarray | None = None) -> np.ndarray:
        """Return a vector per history, [n, D], whose product with V' gives the spectral scores."""
        indptr, indices = history
        value_E = self.ratio_I[indices] * (np.float32(1) if weight_E is None else weight_E)
        row_nI = sp.csr_array((value_E, indices, indptr), shape=(len(indptr) - 1, len(self.in_I)))
        return np.asarray(row_nI @ self.item_ID * self.gain_D, np.float32)

    @property
    def user_UD(self) -> np.ndarray:
        """The vectors of all users."""
        return self.vectors(*self.pairs)


class Weighted(NamedTuple):
    """Train items by user, and the weights of the pairs (None if all weights are 1)."""

    known: Csr
    weight_E: np.ndarray | None


class Halves(NamedTuple):
    """The matrices R~ [U, I] and R~ᵀ [I, U], each stored for sparse products from the left.

    Attributes:
      to_users: R~, which maps item vectors [I, B] to user vectors [U, B].
      to_items: R~ᵀ, which maps user vectors [U, B] to item vectors [I, B].
    """

    to_users: Edges | Buckets
    to_items: Edges | Buckets


def halves(pairs: Weighted, user_U: np.ndarray, item_I: np.ndarray) -> Halves:
    """Build R~ = diag(user) R diag(item) and R~ᵀ on the default device, for its default kernel."""
    (indptr, indices), n_users = pairs.known, len(user_U)
    user_E = np.repeat(np.arange(n_users, dtype=np.int32), np.diff(indptr))
    weight_E = user_U[user_E] * item_I[indices]
    weight_E = weight_E if pairs.weight_E is None else weight_E * pairs.weight_E
    shape = (n_users, len(item_I))
    by_user = sp.csr_array((weight_E.astype(np.float32), indices, indptr), shape=shape)
    return Halves(_half(by_user), _half(by_user.T.tocsr()))


def _half(rows: sp.csr_array) -> Edges | Buckets:
    indptr, index = rows.indptr.astype(np.int32), rows.indices.astype(np.int32)
    if spmm.default_kernel() == "buckets":
        return buckets.group_rows(indptr, index, rows.data)
    receiver = np.repeat(np.arange(len(indptr) - 1, dtype=np.int32), np.diff(indptr))
    return Edges(*map(jnp.asarray, (rows.data, index, receiver, indptr)))


def _product(half: Edges | Buckets, x: Float[Array, "N B"]) -> Float[Array, "R B"]:
    return edge_product("csr", half, x) if isinstance(half, Edges) else buckets.product(half, x)


@jax.custom_vjp
def _mirrored(matrix: Halves, y_IB: Float[Array, "I B"]) -> Float[Array, "I B"]:
    """Compute (1 - 2 P) y. Its gradient is one more such product, since P is symmetric."""
    return y_IB - 2 * _product(matrix.to_items, _product(matrix.to_users, y_IB))


# The gradient of the matrix itself, None, is not needed.
_mirrored.defvjp(
    lambda matrix, y_IB: (_mirrored(matrix, y_IB), matrix),
    lambda matrix, grad_IB: (None, _mirrored(matrix, grad_IB)),
)


def polynomial(
    matrix: Halves, coefficient_K: Float[Array, "K"], x_IB: Float[Array, "I B"]
) -> Float[Array, "I B"]:
    """Compute Σ_k c_k T_k(1 - 2 P) x by Clenshaw's rule, with K - 1 pairs of products."""

    mirrored = partial(_mirrored, matrix)
    if coefficient_K.shape[0] == 1:
        return coefficient_K[0] * x_IB
    y_IB, before_IB = coefficient_K[-1] * x_IB, jnp.float32(0)
    for k in range(coefficient_K.shape[0] - 2, 0, -1):
        next_IB = coefficient_K[k] * x_IB + 2 * mirrored(y_IB) - before_IB
        y_IB, before_IB = next_IB, y_IB
    return coefficient_K[0] * x_IB + mirrored(y_IB) - before_IB


def linear_scores(
    arrays: dict[str, Any], x_IB: Float[Array, "I B"], z_BD: Float[Array, "B D"]
) -> Float[Array, "B I"]:
    """Compute the module's y for B rows r, from in ∘ r and V'ᵀ (ratio ∘ r).

    Args:
      arrays: ``coefficient_K``, ``out_I`` and ``gain_D`` of a :class:`Filter`, its ``item_ID`` as
        ``item``, and its :class:`Halves` as ``matrix``.
    """
    y_IB = polynomial(arrays["matrix"], arrays["coefficient_K"], x_IB)
    # Below HIGHEST, GPU and TPU would round float32 factors, and so change the ranking.
    spectral_BI = lax.dot_general(
        z_BD * arrays["gain_D"],
        arrays["item"],
        (((1,), (1,)), ((), ())),
        precision=lax.Precision.HIGHEST,
    )
    return (arrays["out_I"][:, None] * y_IB).T + spectral_BI


def neighbour_scores(
    matrix: Halves, neighbours: Any, row_IB: Float[Array, "I B"]
) -> Float[Array, "I B"]:
    """Compute D_i^-m Rᵀ (R~ r)^s: users vote for their items, weighted by similarity.

    A user also votes for their own items, those of r. Rankings leave these items out unless known
    items are ranked too (eval.repeatable), and only then can the user's own votes change a ranking.
    """
    alike_UB = jnp.maximum(_product(matrix.to_users, row_IB), 0) ** neighbours.blend[1]
    vote_IB = _product(matrix.to_items, neighbours.user_U[:, None] * alike_UB)
    return neighbours.item_I[:, None] * vote_IB


class Leading(NamedTuple):
    """The leading right singular vectors of R~, [I, D], and their singular values, [D], descending.

    Both are 0 beyond the rank of R~.
    """

    item_ID: np.ndarray
    sigma_D: np.ndarray


def leading(matrix: Halves, n_items: int, dim: int, key: PRNGKeyArray) -> Leading:
    """Compute the ``dim`` leading right singular vectors of R~, by subspace iteration.

    The method is that of :func:`jaxrec.graph.spectral.singular_vectors`, but vectors are made
    orthogonal by the eigenvectors of their Gram matrix, which takes a fraction of the time of a QR
    decomposition. Singular values below about 0.03 are lost to rounding, and are returned as 0.
    """
    width = min(dim + _SPARE, n_items)
    start_IK = jax.random.normal(key, (n_items, width))
    for _ in range(_ROUNDS):
        start_IK = _round(matrix, _orthogonal(start_IK))
    basis_IK = _orthogonal(start_IK)
    square_K, turn_KK = _eigen(_gram(_product_jit(matrix.to_users, basis_IK)))
    real_K = square_K > _DROWNS
    item_IK = np.asarray(basis_IK @ turn_KK) * real_K
    return Leading(item_IK[:, :dim], np.sqrt(square_K * real_K)[:dim])


_product_jit = jax.jit(_product)


@jax.jit
def _round(matrix: Halves, x_IK: Array) -> Array:
    return _product(matrix.to_items, _product(matrix.to_users, x_IK))


@jax.jit
def _gram(x_NK: Array) -> Array:
    return jnp.matmul(x_NK.T, x_NK, precision="highest")


def _eigen(gram_KK: Array) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, descending and clipped at 0, and eigenvectors."""
    value_K, vector_KK = np.linalg.eigh(np.asarray(gram_KK, np.float64))
    return value_K[::-1].clip(0), np.asarray(vector_KK[:, ::-1], np.float32)


def _orthogonal(x_NK: Array) -> Array:
    """Return an orthonormal basis of the span of x, [N, K]; columns beyond x's rank are 0."""
    value_K, turn_KK = _eigen(_gram(x_NK))
    real_K = value_K > _DROWNS * max(value_K[0], 1e-30)
    return x_NK @ (turn_KK * np.where(real_K, 1 / np.sqrt(np.where(real_K, value_K, 1)), 0))


def weighted(train: Dataset) -> tuple[Weighted, np.ndarray, np.ndarray]:
    """Return the interactions as a matrix, and the degrees of users and items.

    The weights of a repeated pair are summed.
    """
    ones_E = np.ones(train.n_edges, np.float32)
    value_E = ones_E if train.weight is None else train.weight
    shape = (train.n_users, train.n_items)
    matrix = sp.csr_array((value_E, (train.user, train.item)), shape=shape)  # sums repeated pairs
    matrix.sort_indices()
    known = Csr(matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32))
    weight_E = None if (matrix.data == 1).all() else matrix.data
    return Weighted(known, weight_E), matrix.sum(axis=1), matrix.sum(axis=0)


def _power(degree_N: np.ndarray, exponent: float) -> np.ndarray:
    """Return degree^exponent, float32; 0 for a degree of 0."""
    safe_N = np.where(degree_N > 0, degree_N, 1).astype(np.float64)
    return np.where(degree_N > 0, safe_N**exponent, 0).astype(np.float32)


def plateau(flatness: float, order: int) -> Float[np.ndarray, "K"]:
    """Return ChebyCF's response (Kim et al. 2025) as Chebyshev coefficients c_0 to c_order.

    The coefficients interpolate h(x) = .5 + .5 |x|^flatness for x < 0 and .5 - .5 |x|^flatness for
    x > 0, where x = 1 - 2 t for an eigenvalue t of P.
    """

    def h(x: Any) -> Any:  # maps an array to an array, which NumPy's stubs do not know
        return 0.5 - 0.5 * np.sign(x) * np.abs(x) ** flatness

    return chebyshev.chebinterpolate(h, order)


def turbo(order: int) -> Float[np.ndarray, "K"]:
    """Return Turbo-CF's polynomial (Park et al. 2024, eq. 8 to 10) as Chebyshev coefficients.

    The polynomial is t, 2 t - t² or t + 0.01 (-t³ + 10 t² - 29 t) for order 1, 2 or 3. The
    coefficients are those of a series in x = 1 - 2 t. Turbo-CF also raises the entries of P to a
    power, which this module does not.
    """
    powers = {1: (0, 1), 2: (0, 2, -1), 3: (0, 0.71, 0.1, -0.01)}[order]
    return chebyshev.poly2cheb(Polynomial(powers)(Polynomial((0.5, -0.5))).coef)


def split_response(
    series_K: Float[np.ndarray, "K"], sigma_D: Float[np.ndarray, "D"], degree: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split a response to P's eigenvalues into a series of low degree and gains of leading vectors.

    The known eigenvalues are t_d = σ_d² of the leading singular values. The series is close to the
    response on [0, t_D], up to the smallest known eigenvalue. The gains are the difference between
    the response and the series at the known eigenvalues, so that their sum is exact there.

    Args:
      series_K: the response as Chebyshev coefficients in x = 1 - 2 t.
      sigma_D: leading singular values, descending.
      degree: degree of the new series.

    Returns:
      The degree + 1 coefficients of the new series, and gain_D.
    """
    known_D = 1 - 2 * np.square(sigma_D.astype(np.float64))
    last = max(float(1 - known_D[-1]) / 2 if len(known_D) else 1.0, 1e-3)
    x = 1 - last * (1 - np.cos(np.linspace(0, np.pi, _CLOSE)))  # points are denser at both ends
    close = chebyshev.Chebyshev.fit(x, chebyshev.chebval(x, series_K), degree)
    low_K = close.convert(domain=(-1, 1), window=(-1, 1)).coef
    low_K = np.pad(low_K, (0, degree + 1 - len(low_K)))
    lacking_D = chebyshev.chebval(known_D, series_K) - chebyshev.chebval(known_D, low_K)
    return low_K, lacking_D


def fit(
    kind: str,
    train: Dataset,
    key: PRNGKeyArray,
    *,
    dim: int,
    order: int = 1,
    flatness: float = 1.5,
    degree_power: float = 0.4,
    spectral_weight: float = 0.0,
    user_power: float = 0.5,
    products: int = 1,
    neighbour_weight: float = 0.0,
    neighbour_sharpness: float = 1.5,
    neighbour_power: float = 0.2,
    spectrum: Callable[[Callable[[], Leading]], Leading] | None = None,
) -> Filter:
    """Fit a filter to the train interactions.

    * ``cheby-cf`` (ChebyCF, Kim et al., SIGIR 2025): in = degree^-b and out = degree^b with b =
      degree_power, q is close to :func:`plateau`, and spectral_weight · V Vᵀ is added to q(P).
    * ``gf-cf`` (GF-CF, Shen et al., CIKM 2021): P, plus spectral_weight · D^-1/2 V Vᵀ D^1/2.
    * ``turbo-cf`` (Turbo-CF, Park et al., SIGIR 2024): q is :func:`turbo`.
    * ``ease``: only the singular vectors; the caller adds :attr:`Filter.weight_II`.
    * ``popularity``: the score of an item is its degree; item_ID holds the degrees, [I, 1].

    Args:
      key: random key for the start of the iteration that finds the singular vectors.
      dim: D; reduced to the number of users or of items if it is larger.
      order, flatness, degree_power, spectral_weight, user_power, products, neighbour_weight,
        neighbour_sharpness, neighbour_power: see
        :class:`jaxrec.config.models.filter.FilterOptions`.
      spectrum: called with a function that computes the singular vectors; returns the function's
        result, or a stored result. Default: call the function.
    """
    pairs, degree_U, degree_I = weighted(train)
    share = user_power if kind == "turbo-cf" else 0.5
    dim = 1 if kind == "popularity" else min(dim, train.n_users, train.n_items)
    if kind == "popularity":
        vector_ID, sigma_D = degree_I[:, None], np.ones(1)
    else:
        matrix = halves(pairs, _power(degree_U, -0.5), _power(degree_I, -0.5))
        compute = partial(leading, matrix, train.n_items, dim, key)
        vector_ID, sigma_D = compute() if spectrum is None else spectrum(compute)
    one_I = _power(degree_I, 0.0)
    in_I = out_I = low_in_I = low_out_I = one_I
    coefficient_K, gain_D = np.zeros(1), np.ones(dim)
    if kind == "cheby-cf":
        in_I, out_I = _power(degree_I, -degree_power), _power(degree_I, degree_power)
        low_in_I, low_out_I = in_I, out_I
        coefficient_K, lacking_D = plateau(flatness, order), np.zeros(dim)
        if products < order:
            coefficient_K, lacking_D = split_response(coefficient_K, sigma_D, products)
        # A vector beyond the rank of R~ has no eigenvalue, so it gets no weight.
        gain_D = np.where(sigma_D > 0, lacking_D + spectral_weight, 0)
    elif kind == "gf-cf":
        coefficient_K, gain_D = turbo(1), np.full(dim, spectral_weight)
        low_in_I, low_out_I = _power(degree_I, -0.5), _power(degree_I, 0.5)
    elif kind == "turbo-cf":
        coefficient_K, gain_D = turbo(order), np.zeros(dim)
    neighbours = None
    if neighbour_weight > 0:
        neighbours = Neighbours(
            _power(degree_U, share),
            _power(degree_I, 1 - share - neighbour_power),
            np.array([neighbour_weight, neighbour_sharpness], np.float32),
        )
    ratio_I = np.where(low_out_I > 0, low_in_I / np.where(low_out_I > 0, low_out_I, 1), 0)
    return Filter(
        pairs.known.indptr,
        pairs.known.indices,
        coefficient_K.astype(np.float32),
        (vector_ID * low_out_I[:, None]).astype(np.float32),
        gain_D.astype(np.float32),
        _power(degree_U, -share),
        _power(degree_I, share - 1),
        in_I,
        out_I,
        ratio_I.astype(np.float32),
        pairs.weight_E,
        neighbours=neighbours,
    )
