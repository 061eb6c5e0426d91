"""Slow reference implementations by loops and dense matrices, written from the definitions."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.data.schema import Encoded
from jaxrec.graph.bipartite import NodeFeatures


def top_list(score_I: np.ndarray, seen: set[int], k: int) -> list[int]:
    """Return the k best unseen items, best first; ties go to the lower id."""
    items = [i for i in range(len(score_I)) if i not in seen and score_I[i] > -np.inf]
    return sorted(items, key=lambda i: (-float(score_I[i]), i))[:k]


def ranking_metrics(
    score_UI: np.ndarray,
    relevant: Sequence[set[int]],
    seen: Sequence[set[int]],
    ks: Sequence[int],
) -> dict[str, float]:
    """Return coverage, and the means of the ranking metrics over users with relevant items."""
    users = [u for u in range(len(relevant)) if relevant[u]]
    found: dict[str, float] = {}
    for k in ks:
        rows = []
        shown: set[int] = set()
        for u in users:
            items = top_list(score_UI[u], seen[u], k)
            shown |= set(items)
            wanted = len(relevant[u])
            ranks = [r for r, item in enumerate(items, start=1) if item in relevant[u]]
            ideal = sum(1 / math.log2(r + 1) for r in range(1, min(k, wanted) + 1))
            rows.append(
                {
                    "recall": len(ranks) / wanted,
                    "recall_capped": len(ranks) / min(k, wanted),
                    "ndcg": sum(1 / math.log2(r + 1) for r in ranks) / ideal,
                    "precision": len(ranks) / k,
                    "hit_rate": float(bool(ranks)),
                    "mrr": 1 / ranks[0] if ranks else 0.0,
                    "map": sum(n / r for n, r in enumerate(ranks, start=1)) / min(k, wanted),
                }
            )
        for name in rows[0]:
            found[f"{name}@{k}"] = math.fsum(row[name] for row in rows) / len(users)
        found[f"coverage@{k}"] = len(shown) / score_UI.shape[1]
    return found


def normalised_adjacency(data: Dataset) -> np.ndarray:
    """Return D^-1/2 A D^-1/2 as a dense [N, N] matrix, users first."""
    n_users, n_nodes = data.n_users, data.n_users + data.n_items
    weight = np.ones(data.n_edges) if data.weight is None else data.weight
    adjacency = np.zeros((n_nodes, n_nodes))
    for user, item, w in zip(data.user, data.item, weight, strict=True):
        adjacency[user, n_users + item] += w
        adjacency[n_users + item, user] += w
    degree = adjacency.sum(axis=1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0)
    return scale[:, None] * adjacency * scale[None, :]


def lightgcn(data: Dataset, table_ND: np.ndarray, layers: int) -> np.ndarray:
    """Compute 1/(L+1) Σ_l A^l e_0 with dense powers of the matrix."""
    adjacency = normalised_adjacency(data)
    powers = [np.linalg.matrix_power(adjacency, layer) for layer in range(layers + 1)]
    return sum(power @ table_ND for power in powers) / (layers + 1)


def ngcf(data: Dataset, params: dict, form: str) -> np.ndarray:
    """Compute NGCF node by node: by eq. 7 and 9, or by the lecture's mean or concat.

    ``params`` holds "table" [N, D], and "first", "second" and "bias" as lists by layer.
    """
    weight = normalised_adjacency(data)
    x_ND = params["table"]
    layers = [x_ND]
    for first, second, bias in zip(params["first"], params["second"], params["bias"], strict=True):
        made = []
        for node in range(len(x_ND)):
            if form == "paper":
                sent = sum(weight[node, m] * x_ND[m] for m in range(len(x_ND)))
                total = (sent + x_ND[node]) @ first + (sent * x_ND[node]) @ second
                made.append(np.where(total > 0, total, 0.2 * total))
            else:
                near = np.flatnonzero(weight[node])
                sent = x_ND[near].mean(0) if len(near) else 0 * x_ND[node]
                both = np.concatenate([x_ND[node], sent])
                made.append(np.maximum(both @ np.concatenate([first, second]) + bias, 0))
        x_ND = np.stack(made)
        layers.append(x_ND)
    return np.concatenate(layers, axis=1) if form == "paper" else layers[-1]


def encoded(params: dict, side: str, x: Encoded, *, sum_bags: bool = False) -> np.ndarray:
    """Encode the features of one side ("user" or "item"), node by node and name by name."""
    rows = []
    for n in range(len(x.number)):
        total = params[f"{side}/bias"].copy()
        for place, number in enumerate(np.asarray(x.number[n])):
            total += float(number) * params[f"{side}/number"][place]
        for column, code in enumerate(x.category):
            total += params[f"{side}/category/{column}"][int(code[n])]
        for column, code in enumerate(x.bag):
            names = [int(c) for c in code[n] if c > 0] or [0]
            size = 1 if sum_bags else len(names)
            total += sum(params[f"{side}/bag/{column}"][c] for c in names) / size
        rows.append(total)
    return np.stack(rows)


def node_input(params: dict, features: NodeFeatures | None, ids: bool) -> np.ndarray:
    """Return table rows, encoded features, or their sum; ``params`` is from made_graph.flat."""
    if features is None:
        return params["embedding"]
    sides = [encoded(params, f"inputs/{s}", getattr(features, s)) for s in ("user", "item")]
    return np.concatenate(sides) + (params["embedding"] if ids else 0)


def tower(
    params: dict, side: str, id_D: np.ndarray | None, feature_nH: np.ndarray | None, final: str
) -> np.ndarray:
    """Compute one tower with ReLU between layers, from ids and the vectors of features."""
    x = feature_nH if feature_nH is not None else params[f"{side}/bias"]
    if id_D is not None:
        x = x + id_D @ params[f"{side}/of_id"]
    for layer in range(sum(name.startswith(f"{side}/weight/") for name in params)):
        x = np.maximum(x, 0) @ params[f"{side}/weight/{layer}"] + params[f"{side}/shift/{layer}"]
    if final == "softmax":
        return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    return np.maximum(x, 0) if final == "relu" else x


def pinsage(params: dict, x_ND: np.ndarray, shares: Sequence[np.ndarray]) -> np.ndarray:
    """Compute PinSAGE from dense matrices [N, N] of neighbours' shares, from the first layer on."""
    for layer, share_NN in enumerate(shares):
        of = {name: params[f"convs/{layer}/{name}"] for name in ("message", "update")}
        of |= {f"{name}_bias": params[f"convs/{layer}/{name}_bias"] for name in of}
        sent = np.maximum(x_ND @ of["message"] + of["message_bias"], 0)
        both = np.concatenate([x_ND, share_NN @ sent], axis=1)
        h_ND = np.maximum(both @ of["update"] + of["update_bias"], 0)
        length = np.linalg.norm(h_ND, axis=1, keepdims=True)
        x_ND = h_ND / np.where(length > 0, length, 1)
    return np.maximum(x_ND @ params["head"] + params["head_bias"], 0) @ params["out"]


def gcmc(
    data: Dataset, params: dict, layers: int, features: NodeFeatures | None = None
) -> np.ndarray:
    """Compute GC-MC from dense matrices, one per rating if the parameters have several levels."""
    adjacency, n_users = normalised_adjacency(data), data.n_users
    is_item = (np.arange(len(adjacency)) >= n_users)[:, None]
    n_levels = len(params["convs/0/user"])
    rated = np.zeros(data.n_edges) if data.rating is None or n_levels == 1 else data.rating
    parts = []
    for rating in np.unique(rated):
        part = np.zeros_like(adjacency)
        for e, (user, item) in enumerate(zip(data.user, data.item, strict=True)):
            if rated[e] == rating:
                part[user, n_users + item] = adjacency[user, n_users + item]
                part[n_users + item, user] = adjacency[user, n_users + item]
        parts.append(part)
    assert len(parts) == n_levels

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        weight, bias = params[f"{name}/weight"], params[f"{name}/bias"]
        return np.where(is_item, x @ weight[1] + bias[1], x @ weight[0] + bias[0])

    h = node_input(params, features, "embedding" in params)
    for layer in range(layers):
        of_user, of_item = params[f"convs/{layer}/user"], params[f"convs/{layer}/item"]
        total = 0
        for level, part in enumerate(parts):
            total = total + part @ np.where(is_item, h @ of_item[level], h @ of_user[level])
        h = np.maximum(total, 0)
    z = dense("out", h)
    if features is not None:
        own = node_input(params, features, ids=False)
        z = z + dense("dense_out", np.maximum(dense("dense", own), 0))
    if "scale" in params:
        for place, side in enumerate((slice(0, n_users), slice(n_users, None))):
            unit = (z[side] - z[side].mean(0)) / np.sqrt(z[side].var(0) + 1e-5)
            z[side] = unit * params["scale"][place] + params["shift"][place]
    return z


_SLOPES = 12  # how many numbers of each parameter are varied


def slopes(value: Callable[[dict], float], params: dict) -> dict[str, np.ndarray]:
    """Return central differences for some numbers of each parameter, and NaN for the others."""
    found, rng = {}, np.random.default_rng(0)
    for name, x in params.items():
        found[name] = np.full(x.shape, np.nan)
        for number in rng.permutation(x.size)[:_SLOPES]:
            place = tuple(map(int, np.unravel_index(number, x.shape)))
            here, ends = x[place], []
            for step in (1e-6, -1e-6):
                x[place] = here + step
                ends.append(value(params))
            x[place] = here
            found[name][place] = (ends[0] - ends[1]) / 2e-6
    return found


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def bpr(pos_B: np.ndarray, neg_BN: np.ndarray, valid_BN: np.ndarray) -> list[float]:
    """Compute -log σ(pos - neg) of each pair, as a mean over its valid negatives."""
    out = []
    for pos, neg, valid in zip(pos_B, neg_BN, valid_BN, strict=True):
        terms = [-math.log(sigmoid(float(pos) - float(n))) for n in neg[valid]]
        out.append(sum(terms) / len(terms) if terms else 0.0)
    return out


def bce(pos_B: np.ndarray, neg_BN: np.ndarray, valid_BN: np.ndarray) -> list[float]:
    """Compute -log σ(pos) - mean log(1 - σ(neg)) of each pair."""
    out = []
    for pos, neg, valid in zip(pos_B, neg_BN, valid_BN, strict=True):
        terms = [-math.log(1 - sigmoid(float(n))) for n in neg[valid]]
        out.append(-math.log(sigmoid(float(pos))) + (sum(terms) / len(terms) if terms else 0.0))
    return out


def sampled_softmax(pos_B: np.ndarray, neg_BN: np.ndarray, valid_BN: np.ndarray) -> list[float]:
    """Compute -log(e^pos / (e^pos + Σ e^neg)) of each pair."""
    out = []
    for pos, neg, valid in zip(pos_B, neg_BN, valid_BN, strict=True):
        total = math.exp(float(pos)) + sum(math.exp(float(n)) for n in neg[valid])
        out.append(-math.log(math.exp(float(pos)) / total))
    return out


def triplet(pos_B: np.ndarray, neg_BN: np.ndarray, valid_BN: np.ndarray) -> list[float]:
    """Compute 1 - σ(pos - neg) of each pair, as a mean over its valid negatives."""
    out = []
    for pos, neg, valid in zip(pos_B, neg_BN, valid_BN, strict=True):
        terms = [1 - sigmoid(float(pos) - float(n)) for n in neg[valid]]
        out.append(sum(terms) / len(terms) if terms else 0.0)
    return out


def hinge(pos_B: np.ndarray, neg_BN: np.ndarray, valid_BN: np.ndarray) -> list[float]:
    """Compute max(0, 1 - pos + neg) of each pair, as a mean over its valid negatives."""
    out = []
    for pos, neg, valid in zip(pos_B, neg_BN, valid_BN, strict=True):
        terms = [max(0.0, 1 - float(pos) + float(n)) for n in neg[valid]]
        out.append(sum(terms) / len(terms) if terms else 0.0)
    return out


LOSSES = {"bpr": bpr, "bce": bce, "softmax": sampled_softmax, "triplet": triplet, "hinge": hinge}


def item_knn_scores(pair_UI: np.ndarray, neighbours: int, user_power: float) -> np.ndarray:
    """Score by item-kNN: dense similarities, of which each item keeps its nearest few."""
    user_U = np.maximum(pair_UI.sum(axis=1), 1) ** -user_power
    count_I = np.maximum(pair_UI.sum(axis=0), 1)
    similarity_II = pair_UI.T @ (user_U[:, None] * pair_UI) / np.sqrt(np.outer(count_I, count_I))
    kept_II = np.zeros_like(similarity_II)
    for i, row in enumerate(similarity_II):
        others = [j for j in range(len(row)) if j != i]
        near = sorted(others, key=lambda j: (-np.float32(row[j]), j))[:neighbours]
        kept_II[i, near] = row[near]
    return pair_UI @ kept_II.T


def ease_scores(
    pair_UI: np.ndarray, l2: float, dropout: float = 0.0, user_power: float = 0.0
) -> np.ndarray:
    """Score by EASE as independent ridge regressions of each item on all other items."""
    n_items = pair_UI.shape[1]
    weight_II = np.zeros((n_items, n_items))
    weight_U = np.maximum(pair_UI.sum(axis=1), 1) ** -user_power
    for i in range(n_items):
        others = np.delete(np.arange(n_items), i)
        rest = pair_UI[:, others]
        gram = rest.T @ (weight_U[:, None] * rest)
        penalty = l2 + dropout / (1 - dropout) * np.diag(gram)
        target = rest.T @ (weight_U * pair_UI[:, i])
        weight_II[others, i] = np.linalg.solve(gram + np.diag(penalty), target)
    return pair_UI @ weight_II


def level_probabilities(
    user_D: np.ndarray, item_D: np.ndarray, basis_SDD: np.ndarray, share_RS: np.ndarray
) -> np.ndarray:
    """Compute P(r | u, v) of GC-MC's decoder, level by level."""
    logits = []
    for share_S in share_RS:
        matrix_DD = sum(a * basis_DD for a, basis_DD in zip(share_S, basis_SDD, strict=True))
        logits.append(math.exp(float(user_D @ matrix_DD @ item_D)))
    return np.array(logits) / sum(logits)


def rating_errors(predicted: Sequence[float], rating: Sequence[float]) -> dict[str, float]:
    """Compute RMSE and MAE by a loop over pairs."""
    errors = [float(p) - float(r) for p, r in zip(predicted, rating, strict=True)]
    mean_square = math.fsum(e * e for e in errors) / len(errors)
    return {
        "rmse": math.sqrt(mean_square),
        "mae": math.fsum(map(abs, errors)) / len(errors),
    }


def central_differences(f: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """Estimate the gradient of f at x, one coordinate at a time."""
    gradient, step = np.zeros_like(x), 1e-5
    for place in np.ndindex(x.shape):
        move = np.zeros_like(x)
        move[place] = step
        gradient[place] = (f(x + move) - f(x - move)) / (2 * step)
    return gradient


def roc_auc(score: Sequence[float], label: Sequence[bool]) -> float:
    """Return the share of (true, false) pairs in which the true one scores higher.

    A tie counts as one half.
    """
    true = [s for s, there in zip(score, label, strict=True) if there]
    false = [s for s, there in zip(score, label, strict=True) if not there]
    won = sum((a > b) + (a == b) / 2 for a in true for b in false)
    return won / (len(true) * len(false))


def average_precision(score: Sequence[float], label: Sequence[bool]) -> float:
    """Compute Σ (R_n - R_{n-1}) P_n over the distinct scores, from the highest."""
    n_true, total, before = sum(label), 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        called = [there for s, there in zip(score, label, strict=True) if s >= threshold]
        recall = sum(called) / n_true
        total += (recall - before) * sum(called) / len(called)
        before = recall
    return total


def pairs_of_baskets(
    user: Sequence[int],
    item: Sequence[int],
    time: Sequence[float] | None = None,
    window: float = math.inf,
) -> dict[tuple[int, int], int]:
    """Count the users of each pair of items whose times are at most ``window`` apart."""
    found: dict[tuple[int, int], int] = {}
    rows = range(len(user))
    for a in rows:
        for b in rows:
            apart = abs(time[a] - time[b]) if time is not None else 0
            if user[a] == user[b] and item[a] < item[b] and apart <= window:
                found[item[a], item[b]] = found.get((item[a], item[b]), 0) + 1
    return found
