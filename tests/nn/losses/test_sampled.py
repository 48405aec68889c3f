import pytest
import torch
from torch.nn import functional as F

from recattn.nn import binary_loss, sampled_softmax_loss

TARGETS, ITEMS = 7, 13


@pytest.fixture
def catalogue():
    """Logits of all items, and which of them is the target of each row."""
    return torch.randn(TARGETS, ITEMS, dtype=torch.float64) * 2, torch.tensor([0, 3, 12, 5, 5, 7, 1])


def own(targets, sample):
    return sample == targets[:, None]


def test_with_the_catalogue_as_the_sample_it_is_the_cross_entropy(catalogue):
    logits, targets = catalogue
    everything = torch.arange(ITEMS)
    positive = logits.gather(1, targets[:, None]).squeeze(1)
    loss = sampled_softmax_loss(positive, logits, torch.zeros(ITEMS), own(targets, everything))
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets), atol=1e-12, rtol=1e-12)


def test_gradients_are_those_of_the_cross_entropy(catalogue):
    logits, targets = catalogue
    grads = []
    for sampled in (True, False):
        leaf = logits.clone().requires_grad_()
        positive = leaf.gather(1, targets[:, None]).squeeze(1)
        if sampled:
            loss = sampled_softmax_loss(positive, leaf, torch.zeros(ITEMS), own(targets, torch.arange(ITEMS)))
        else:
            loss = F.cross_entropy(leaf, targets)
        loss.backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("power", [0.0, 0.75, 2.0])
def test_the_partition_sum_is_estimated_without_bias(catalogue, power):
    """e^loss · e^p is what stands under the softmax: over many draws its mean is the catalogue's own sum."""
    logits, targets = catalogue
    logits, target = logits[0], targets[:1]
    chances = torch.arange(1.0, ITEMS + 1, dtype=torch.float64) ** power
    chances /= chances.sum()
    draws, size = 6000, 17
    samples = torch.multinomial(chances, draws * size, replacement=True).view(draws, size)
    positive = logits[target]
    sums = torch.empty(draws, dtype=torch.float64)
    for draw, sample in enumerate(samples):
        log_expected = (chances[sample] * size).log()
        loss = sampled_softmax_loss(positive, logits[sample][None], log_expected, own(target, sample[None]))
        sums[draw] = (loss + positive).exp()
    error = sums.std() / draws**0.5
    assert abs(sums.mean() - logits.exp().sum()) < 4 * error
    assert error < 0.02 * logits.exp().sum()


def test_ignored_entries_count_for_nothing_and_get_no_gradient(catalogue):
    logits, _ = catalogue
    negatives = logits[:, 1:].clone().requires_grad_()
    ignored = torch.rand(TARGETS, ITEMS - 1) < 0.4
    ignored[2] = True
    for function, corrections in ((sampled_softmax_loss, [torch.zeros(ITEMS - 1)]), (binary_loss, [])):
        loss = function(logits[:, 0], negatives, *corrections, ignored)
        (gradient,) = torch.autograd.grad(loss, negatives)
        assert (gradient[ignored] == 0).all()
        assert (gradient[~ignored] != 0).all()
        garbage = function(logits[:, 0], negatives.detach().masked_fill(ignored, 1e4), *corrections, ignored)
        torch.testing.assert_close(garbage, loss.detach(), atol=1e-12, rtol=1e-12)


def test_a_target_without_negatives():
    logits, nothing = torch.tensor([2.0], dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool)
    negatives = torch.randn(1, 3, dtype=torch.float64)
    assert sampled_softmax_loss(logits, negatives, torch.zeros(3), nothing).item() == 0
    assert binary_loss(logits, negatives, nothing).item() == pytest.approx(F.softplus(-logits).item())


@pytest.mark.parametrize("negatives", [0, 3])
def test_no_targets_give_zero_and_zero_gradients(negatives):
    positive = torch.zeros(0, requires_grad=True)
    others = torch.zeros(0, negatives, requires_grad=True)
    for loss in (sampled_softmax_loss(positive, others, torch.zeros(negatives)), binary_loss(positive, others)):
        assert loss.item() == 0
        loss.backward()
    assert positive.grad.shape == (0,)


def test_binary_loss_is_its_formula(catalogue):
    logits, _ = catalogue
    positive, negatives = logits[:, 0], logits[:, 1:]
    ignored = torch.rand(TARGETS, ITEMS - 1) < 0.4
    ignored[0], ignored[1] = True, False
    expected = torch.zeros((), dtype=torch.float64)
    for row in range(TARGETS):
        expected -= torch.log(1 / (1 + torch.exp(-positive[row])))
        kept = negatives[row][~ignored[row]]
        if len(kept):
            expected -= torch.log(1 - 1 / (1 + torch.exp(-kept))).mean()
    torch.testing.assert_close(binary_loss(positive, negatives, ignored), expected / TARGETS)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_logits_are_finite(scale):
    positive = torch.full((2,), scale, requires_grad=True)
    negatives = torch.full((2, 3), -scale, requires_grad=True)
    for loss in (sampled_softmax_loss(positive, negatives, torch.zeros(3)), binary_loss(positive, negatives)):
        assert loss.isfinite()
        gradients = torch.autograd.grad(loss, [positive, negatives])
        assert all(g.isfinite().all() for g in gradients)
