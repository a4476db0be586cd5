"""How features of different classes lie: a t-SNE picture, and the numbers that say whether to believe it."""

import numpy as np

from cds_lib.extras import extra

with extra("analysis"):
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors


def standardised(features: np.ndarray) -> np.ndarray:
    """(N, C) -> (N, C) float64 with mean 0 and deviation 1 in every column; a column that never changes becomes 0."""
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    deviation = centred.std(0)
    return centred / np.where(deviation > 0, deviation, 1.0)


def tsne(features: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """(N, C) -> (N, 2) float32: scikit-learn's t-SNE, started from the first two principal components.

    The perplexity must be below N; the same arguments give the same picture on the same machine.
    """
    return TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed).fit_transform(features)


def neighbour_accuracy(features: np.ndarray, labels: np.ndarray, neighbours: int) -> float:
    """Percent of the images whose `neighbours` nearest other images vote for their class (leave one out, Euclidean).

    `features` (N, C), `labels` (N,). Of equal votes the lowest class wins.
    """
    others = NearestNeighbors(n_neighbors=neighbours).fit(features).kneighbors(return_distance=False)
    votes = labels[others][:, :, None] == np.unique(labels)
    return 100 * float((np.unique(labels)[votes.sum(1).argmax(1)] == labels).mean())


def silhouette(features: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette of the classes in this space, -1 (mixed) to 1 (far apart)."""
    return float(silhouette_score(features, labels))
