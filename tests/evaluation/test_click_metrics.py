import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from recattn.errors import ConfigError
from recattn.evaluation import auc, calibration, gauc, log_loss, reliability_curve, user_aucs
from recattn.evaluation.click_metrics import OrderedPairs, sigmoid


def data(samples=997, users=53, levels=None, seed=0):
    """Labels, logits and users; ``levels``: logits of so many values, so that most tie."""
    rng = np.random.default_rng(seed)
    labels = rng.random(samples) < 0.3
    logits = rng.normal(size=samples) + labels
    if levels is not None:
        logits = np.floor(logits * levels / 4)
    return labels, logits, rng.integers(0, users, samples) * 7


LEVELS = pytest.mark.parametrize("levels", [None, 11, 2])


@LEVELS
def test_auc_is_scikit_learns(levels):
    labels, logits, _ = data(levels=levels)
    assert auc(labels, logits) == pytest.approx(roc_auc_score(labels, logits), abs=1e-12)


@LEVELS
def test_auc_of_chosen_users_is_scikit_learns_with_weights(levels):
    labels, logits, users = data(levels=levels)
    known, rows = np.unique(users, return_inverse=True)
    counts = np.random.default_rng(1).integers(0, 4, len(known)).astype(float)
    expected = roc_auc_score(labels, logits, sample_weight=counts[rows])
    assert OrderedPairs(labels, logits, rows).auc(counts) == pytest.approx(expected, abs=1e-12)


def test_auc_of_chosen_users_who_have_one_kind_of_label_is_none():
    pairs = OrderedPairs(np.array([True, False]), np.array([0.5, 0.3]), np.array([0, 1]))
    assert np.isnan(pairs.auc(np.array([2.0, 0.0])))
    assert pairs.auc(np.array([1.0, 1.0])) == 1.0


@LEVELS
@pytest.mark.parametrize(("samples", "users"), [(997, 53), (211, 101)])
def test_each_users_auc_is_scikit_learns(levels, samples, users):
    labels, logits, owners = data(samples, users, levels)
    found = user_aucs(labels, logits, owners)
    assert found.users.tolist() == sorted(set(owners.tolist()))
    for user, area, count in zip(*found, strict=True):
        mine = owners == user
        assert count == mine.sum()
        if labels[mine].all() or not labels[mine].any():
            assert np.isnan(area)
        else:
            assert area == pytest.approx(roc_auc_score(labels[mine], logits[mine]), abs=1e-12)
    assert found.defined.tolist() == (~np.isnan(found.auc)).tolist()
    assert samples > 500 or not found.defined.all(), "some users are to have one kind of label"


def test_gauc_weighs_by_samples_or_each_user_alike_and_skips_users_with_one_kind_of_label():
    users = [3, 3, 3, 3, 5, 5, 9, 9, 9]
    labels = [1, 0, 0, 0, 0, 1, 1, 1, 1]
    scores = [2, 3, 1, 1, 0, 4, 9, 0, 3]  # user 3: 2 of 3 pairs, user 5: all, user 9: no pair
    assert gauc(labels, scores, users) == pytest.approx((4 * 2 / 3 + 2 * 1) / 6)
    assert gauc(labels, scores, users, alike=True) == pytest.approx((2 / 3 + 1) / 2)
    assert user_aucs(labels, scores, users).defined.tolist() == [True, True, False]


def test_a_constant_scorer_gets_one_half():
    labels, _, users = data()
    assert auc(labels, np.zeros(997)) == gauc(labels, np.zeros(997), users) == 0.5


def test_a_popular_user_lifts_auc_and_not_gauc():
    """Who takes much gets higher scores: of use across users, none within."""
    users = np.repeat([0, 1], 1000)
    labels = np.random.default_rng(0).random(2000) < np.where(users == 0, 0.1, 0.9)
    assert auc(labels, users) > 0.85
    assert gauc(labels, users, users) == 0.5


def test_log_loss_is_scikit_learns_and_clips_nothing():
    labels, logits, _ = data()
    assert log_loss(labels, logits) == pytest.approx(sklearn_log_loss(labels, 1 / (1 + np.exp(-logits))), abs=1e-12)
    assert log_loss([0], [800.0]) == 800.0
    assert log_loss([1], [800.0]) == 0.0


def test_calibration_is_expected_over_observed():
    assert calibration([1, 1, 0, 0], np.log([3.0, 1.0, 1.0, 3.0])) == pytest.approx((0.75 + 0.5 + 0.5 + 0.75) / 2)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=100_000)
    labels = rng.random(100_000) < sigmoid(logits)
    assert calibration(labels, logits) == pytest.approx(1.0, abs=0.01)
    assert calibration(labels, logits + 0.5) > 1.1


@pytest.mark.filterwarnings("error")
def test_probabilities_do_not_overflow():
    assert sigmoid(np.array([-800.0, 0.0, 800.0])).tolist() == [0.0, 0.5, 1.0]


def test_the_reliability_curve_is_scikit_learns_with_counts():
    labels, logits, _ = data(1000)
    curve = reliability_curve(labels, sigmoid(logits), bins=8)
    observed, expected = calibration_curve(labels, sigmoid(logits), n_bins=8, strategy="quantile")
    assert curve.counts.tolist() == [125] * 8
    np.testing.assert_allclose(curve.expected, expected, atol=1e-12)
    np.testing.assert_allclose(curve.observed, observed, atol=1e-12)


def test_bins_hold_equal_counts_even_where_all_probabilities_tie_or_samples_are_few():
    curve = reliability_curve(np.arange(11) < 3, np.full(11, 0.2), bins=4)
    assert sorted(curve.counts.tolist()) == [2, 3, 3, 3]
    np.testing.assert_allclose(curve.expected, 0.2)
    assert (curve.observed * curve.counts).sum() == pytest.approx(3)
    assert reliability_curve([1, 0], [0.3, 0.4], bins=10).counts.tolist() == [1, 1]


def test_what_has_no_value_is_refused():
    with pytest.raises(ConfigError, match="all 2 labels are equal: AUC needs"):
        auc([1, 1], [0.1, 0.2])
    with pytest.raises(ConfigError, match="none of 2 users has both a positive and a negative"):
        gauc([1, 0], [0.1, 0.2], [4, 5])
    with pytest.raises(ConfigError, match="none of 1 labels is positive"):
        calibration([0], [0.1])
    with pytest.raises(ConfigError, match="bins must be an integer >= 1, got 0"):
        reliability_curve([1, 0], [0.1, 0.2], bins=0)


@pytest.mark.parametrize("metric", [auc, log_loss, calibration, reliability_curve])
def test_labels_and_scores_that_are_none_are_refused(metric):
    with pytest.raises(ConfigError, match="1 of 2 scores are no finite numbers, the first is nan"):
        metric([1, 0], [0.1, float("nan")])
    with pytest.raises(ConfigError, match="2 of 2 scores are no finite numbers, the first is inf"):
        metric([1, 0], [float("inf"), float("-inf")])
    with pytest.raises(ConfigError, match="labels hold 2: allowed are 0 and 1"):
        metric([1, 2], [0.1, 0.2])
    with pytest.raises(ConfigError, match=r"labels \(2,\) and scores \(3,\)"):
        metric([1, 0], [0.1, 0.2, 0.3])
    with pytest.raises(ConfigError, match=r"at least one"):
        metric([], [])
    with pytest.raises(ConfigError, match=r"users is \(1,\): it must be \(2,\)"):
        user_aucs([1, 0], [0.1, 0.2], [3])
