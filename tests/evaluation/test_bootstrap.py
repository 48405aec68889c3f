import numpy as np
import pytest

from recattn.errors import ConfigError
from recattn.evaluation import bootstrap, bootstrap_interval, paired_bootstrap, summarise


def test_interval_equals_an_explicit_loop_with_the_same_draws():
    rng = np.random.default_rng(1)
    values, groups = rng.random(37), rng.integers(11, size=37)
    labels = np.unique(groups)
    draws = np.random.default_rng(4).integers(len(labels), size=(200, len(labels)))
    means = [np.concatenate([values[groups == labels[g]] for g in row]).mean() for row in draws]
    mean, low, high = bootstrap_interval(values, groups, level=0.9, num_samples=200, seed=4)
    assert mean == pytest.approx(values.mean())
    assert [low, high] == pytest.approx(list(np.quantile(means, [0.05, 0.95])))


def test_drawing_in_blocks_changes_no_sample(monkeypatch):
    values = np.random.default_rng(1).random(23)
    whole = bootstrap_interval(values, num_samples=50)
    monkeypatch.setattr(bootstrap, "_BLOCK", 70)
    assert bootstrap_interval(values, num_samples=50) == whole


def test_interval_of_a_mean_has_the_width_of_its_standard_error():
    values = np.random.default_rng(8).normal(size=2000)
    mean, low, high = bootstrap_interval(values, num_samples=2000)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert [low, high] == pytest.approx([mean - half, mean + half], abs=0.1 * half)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(9)
    covered = 0
    for trial in range(200):
        _, low, high = bootstrap_interval(rng.random(100) < 0.3, num_samples=300, seed=trial)
        covered += low <= 0.3 <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_targets_of_one_user_do_not_narrow_the_interval():
    values = np.repeat(np.random.default_rng(3).random(40), 25)
    users = np.repeat(np.arange(40), 25)
    _, low, high = bootstrap_interval(values, users)
    _, naive_low, naive_high = bootstrap_interval(values)
    assert high - low > 4 * (naive_high - naive_low)
    assert (low, high) == pytest.approx(bootstrap_interval(values[::25])[1:])


def test_same_seed_same_interval_and_another_seed_another():
    values = np.random.default_rng(3).random(50)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_summary_and_bootstrap_agree():
    ranks, users = np.array([1, 4, 30, 2, 12]), np.array([0, 0, 1, 2, 2])
    entry = summarise(ranks, users, ks=(10,))["hr@10"]
    assert (entry["mean"], entry["low"], entry["high"]) == pytest.approx(bootstrap_interval(ranks <= 10, users))


def test_paired_interval_is_far_narrower_than_two_separate_ones():
    base = np.random.default_rng(6).random(500)
    difference, low, high = paired_bootstrap(base + 0.01, base)
    assert (difference, low, high) == pytest.approx((0.01, 0.01, 0.01))


def test_impossible_arguments_are_named():
    with pytest.raises(ConfigError, match="n at least 1"):
        bootstrap_interval([])
    with pytest.raises(ConfigError, match=r"groups \(1,\)"):
        bootstrap_interval([1.0, 2.0], [1])
    with pytest.raises(ConfigError, match=r"level is 1\.5"):
        bootstrap_interval([1.0], level=1.5)
    with pytest.raises(ConfigError, match="num_samples is 0"):
        bootstrap_interval([1.0], num_samples=0)
    with pytest.raises(ConfigError, match="pairs need equal shapes"):
        paired_bootstrap([1.0], [1.0, 2.0])
