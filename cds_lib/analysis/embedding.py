"""The arrangement of classes in feature space: t-SNE, and measures that tell whether to believe its picture."""

import numpy as np

from cds_lib.extras import extra

with extra("analysis"):
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors


def standardised(features: np.ndarray) -> np.ndarray:
    """Return features (N, C), float64, with mean 0 and deviation 1 in every column; a constant column becomes 0."""
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    deviation = centred.std(0)
    return centred / np.where(deviation > 0, deviation, 1.0)


def tsne(features: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Return scikit-learn's t-SNE (N, 2) float32 of features (N, C), started from the first two principal components.

    The perplexity must be below N. The same arguments give the same picture on the same machine.
    """
    return TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed).fit_transform(features)


def neighbour_accuracy(features: np.ndarray, labels: np.ndarray, neighbours: int) -> float:
    """Return the percentage of images whose `neighbours` nearest other images vote for their class.

    `features` is (N, C), `labels` (N,). This is leave-one-out, Euclidean; ties go to the lowest class.
    """
    others = NearestNeighbors(n_neighbors=neighbours).fit(features).kneighbors(return_distance=False)
    votes = labels[others][:, :, None] == np.unique(labels)
    return 100 * float((np.unique(labels)[votes.sum(1).argmax(1)] == labels).mean())


def silhouette(features: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean silhouette of the classes in this space, from -1 (mixed) to 1 (far apart)."""
    return float(silhouette_score(features, labels))
