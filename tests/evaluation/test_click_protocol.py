import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from recattn.data.click_samples import label_by_sampling
from recattn.data.split import events_between
from recattn.errors import ConfigError
from recattn.evaluation import auc, calibration, evaluate_clicks, gauc, log_loss, predict_clicks
from recattn.evaluation.bootstrap import resampled_counts


def data(seed=0, samples=499, users=31):
    rng = np.random.default_rng(seed)
    labels = rng.random(samples) < 0.4
    return labels, rng.integers(0, users, samples), [rng.normal(size=samples) + labels for _ in range(3)]


def test_means_are_the_metrics_and_over_several_trainings_their_means():
    labels, users, logits = data()
    for some in (logits[:1], logits):
        found = evaluate_clicks(labels, users, some, num_samples=10).metrics
        expected = {
            "auc": [auc(labels, each) for each in some],
            "gauc": [gauc(labels, each, users) for each in some],
            "gauc_users": [gauc(labels, each, users, alike=True) for each in some],
            "log_loss": [log_loss(labels, each) for each in some],
            "calibration": [calibration(labels, each) for each in some],
        }
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name]["mean"] == pytest.approx(np.mean(values), abs=1e-12)


def test_intervals_equal_an_explicit_loop_with_the_same_draws():
    labels, users, logits = data()
    known = np.unique(users)
    draws = np.concatenate(list(resampled_counts(len(known), num_samples=40, seed=3)))
    aucs, gaucs, losses, ratios = [], [], [], []
    for counts in draws.astype(int):
        copies, owners = [], []
        for user, times in zip(known, counts, strict=True):
            mine = np.flatnonzero(users == user)
            copies.append(np.tile(mine, times))
            owners.append(np.repeat(np.arange(times) + 1000 * user, len(mine)))  # a user drawn twice is two users
        taken, owner = np.concatenate(copies), np.concatenate(owners)
        aucs.append(np.mean([roc_auc_score(labels[taken], each[taken]) for each in logits]))
        gaucs.append(np.mean([gauc(labels[taken], each[taken], owner) for each in logits]))
        losses.append(np.mean([log_loss(labels[taken], each[taken]) for each in logits]))
        ratios.append(np.mean([calibration(labels[taken], each[taken]) for each in logits]))
    found = evaluate_clicks(labels, users, logits, num_samples=40, seed=3, level=0.8).metrics
    for name, values in (("auc", aucs), ("gauc", gaucs), ("log_loss", losses), ("calibration", ratios)):
        assert [found[name][side] for side in ("low", "high")] == pytest.approx(np.quantile(values, [0.1, 0.9]))


def test_users_of_one_kind_of_label_are_counted_and_more_samples_of_one_user_do_not_narrow():
    labels, users, logits = np.array([1, 1, 0, 1, 0]) == 1, np.array([2, 2, 4, 7, 7]), [np.arange(5.0)]
    found = evaluate_clicks(labels, users, logits, num_samples=20)
    counts = {name: found.about[name] for name in ("samples", "positives", "users", "users_without_both")}
    assert counts == {"samples": 5, "positives": 3, "users": 3, "users_without_both": 2}
    many = 300
    labels, users, logits = data(samples=many)
    narrow, tiled = (
        evaluate_clicks(np.tile(labels, n), np.tile(users, n), [np.tile(logits[0], n)], num_samples=200).metrics["auc"]
        for n in (1, 9)
    )
    assert tiled == pytest.approx(narrow)


def test_without_a_user_of_both_kinds_there_is_no_gauc():
    labels, users = np.array([True, False, True]), np.array([1, 2, 3])
    found = evaluate_clicks(labels, users, [np.array([2.0, 1.0, 0.5])], num_samples=50)
    assert found.metrics.keys() == {"auc", "log_loss", "calibration"}
    assert found.metrics["auc"] == {"mean": 0.5, "low": 0.0, "high": 1.0}  # resamples without a pair have no part
    assert all(np.isfinite(list(entry.values())).all() for entry in found.metrics.values())


def test_the_reliability_curve_is_of_the_mean_probability():
    labels, users, _ = data()
    low, high = np.full(499, -40.0), np.full(499, 800.0)
    curve = evaluate_clicks(labels, users, [low, high], bins=3, num_samples=5).about["reliability"]
    assert curve["expected"] == pytest.approx([0.5, 0.5, 0.5])
    assert sum(curve["counts"]) == 499


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ConfigError, match="logits is empty"):
        evaluate_clicks(np.array([True]), np.array([0]), [])
    with pytest.raises(ConfigError, match="all 1 labels are equal"):
        evaluate_clicks(np.array([True]), np.array([0]), [np.array([0.5])])
    with pytest.raises(ConfigError, match="no finite numbers"):
        evaluate_clicks(np.array([True, False]), np.array([0, 0]), [np.zeros(2), np.array([0.5, np.nan])])


def test_each_sample_is_predicted_from_what_its_user_had_then(random_split):
    """The ranker says 1000 · events seen + the last of them, so that every number tells where it came from."""
    histories = random_split.histories
    lengths = histories.lengths
    samples = label_by_sampling(histories, events_between(np.ones_like(lengths), lengths), negatives=2)

    def ranker(batch):
        assert torch.is_inference_mode_enabled()
        last = batch.history.items.gather(1, (batch.visible - 1).clamp(min=0))
        return (batch.candidates * 1000 + last).float()

    found = predict_clicks(ranker, histories, samples, max_length=5)
    before = histories.items[histories.offsets[samples.users] + samples.visible - 1]
    assert found.tolist() == (samples.items * 1000 + before).tolist()
    assert found.dtype == np.float64
