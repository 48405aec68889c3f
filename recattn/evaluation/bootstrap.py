"""Intervals by resampling users (Efron 1979, the percentile method)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recattn.errors import ConfigError

_BLOCK = 4_000_000  # resampled users drawn at a time: bounds the memory to some 64 MB


def resampled_counts(groups: int, *, num_samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Bootstrap samples of groups in blocks of rows M: M[b, g] says how often sample b drew group g.

    Each sample draws as many groups as there are, with replacement. Same seed, same samples, whatever the blocks.

    Yields (samples of the block, groups), num_samples rows in all.

    >>> [block.sum(1).tolist() for block in resampled_counts(5, num_samples=3, seed=0)]
    [[5.0, 5.0, 5.0]]
    """
    rng = np.random.default_rng(seed)
    rows_at_once = max(1, _BLOCK // groups)
    for start in range(0, num_samples, rows_at_once):
        rows = min(rows_at_once, num_samples - start)
        drawn = rng.integers(groups, size=(rows, groups))
        drawn += np.arange(rows)[:, None] * groups
        yield np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)


def resampled_ratios(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], *, num_samples: int, seed: int
) -> NDArray[np.float64]:
    """Ratio of sums in each bootstrap sample of groups: ``(M @ numerators) / (M @ denominators)``.

    M are the samples of :func:`resampled_counts`.

    numerators, denominators: (groups, metrics); denominators above 0.
    Returns (num_samples, metrics). Same seed, same samples, however many metrics there are.

    >>> ones = np.ones((5, 1))
    >>> resampled_ratios(2 * ones, ones, num_samples=3, seed=0).tolist()
    [[2.0], [2.0], [2.0]]
    """
    blocks = resampled_counts(len(numerators), num_samples=num_samples, seed=seed)
    return np.concatenate([(counts @ numerators) / (counts @ denominators) for counts in blocks])


def percentile_bounds(samples: NDArray[np.float64], level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two percentiles (along axis 0) between which the share ``level`` of the samples lies.

    >>> [round(float(bound), 6) for bound in percentile_bounds(np.arange(101.0), 0.9)]
    [5.0, 95.0]
    """
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}: it must lie between 0 and 1")
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def bootstrap_interval(
    values: ArrayLike, groups: ArrayLike | None = None, *, level: float = 0.95, num_samples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """The mean of the values and its interval, resampling whole groups.

        mean = Σ values / n;   sample b: (Σ_g M[b, g] Σ_g values) / (Σ_g M[b, g] n_g)

    Several targets of one user are not independent: give the users as ``groups`` and they are drawn or left together.

    values: (n,) one value per target, at least one.
    groups: (n,) labels; None makes each value a group of its own.
    Returns (mean, low, high). With a single group, or constant values, low = mean = high.
    Raises ConfigError for no values, unequal lengths, a level outside (0, 1) or num_samples below 1.

    >>> bootstrap_interval([1.0, 1.0, 1.0])
    (1.0, 1.0, 1.0)
    """
    flat = np.asarray(values, np.float64)
    labels = np.arange(flat.size) if groups is None else np.asarray(groups)
    if flat.ndim != 1 or not flat.size or labels.shape != flat.shape:
        raise ConfigError(f"values {flat.shape} and groups {labels.shape}: both must be (n,) with n at least 1")
    if num_samples < 1:
        raise ConfigError(f"num_samples is {num_samples}: it must be at least 1")
    _, rows = np.unique(labels, return_inverse=True)
    sums: NDArray[np.float64] = np.bincount(rows, weights=flat)[:, None].astype(np.float64)
    sizes = np.bincount(rows)[:, None].astype(np.float64)
    samples = resampled_ratios(sums, sizes, num_samples=num_samples, seed=seed)[:, 0]
    low, high = percentile_bounds(samples, level)
    return float(flat.mean()), float(low), float(high)


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    num_samples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """The mean of ``a - b`` and its interval: two models on the same targets, resampled together.

    An interval that leaves out 0 says that the models differ on this split at that level; it says nothing about
    other seeds of training.

    a, b: (n,) values of the same targets in the same order.
    Returns (difference, low, high).

    >>> paired_bootstrap([1.0, 0.5], [0.5, 0.0])
    (0.5, 0.5, 0.5)
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape:
        raise ConfigError(f"a is {first.shape} and b is {second.shape}: pairs need equal shapes")
    return bootstrap_interval(first - second, groups, level=level, num_samples=num_samples, seed=seed)
