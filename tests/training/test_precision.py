"""Training in bf16: as good as in fp32, measured in fp32, and never mixed up with it."""

import pytest
import torch

from recattn.errors import ConfigError
from recattn.evaluation import evaluate
from recattn.models import HSTU, SASRec, TargetAttention
from recattn.training import NextItemTask, RankingTask, fit
from recattn.training.pieces import sum_of_losses

MODELS = {"sasrec": SASRec, "hstu": HSTU, "target attention": TargetAttention}


def train(split, folder, name, **more):
    torch.manual_seed(0)
    model = MODELS[name](split.histories.num_items, dim=14, max_length=7, dropout=0.0)
    task = (RankingTask if name == "target attention" else NextItemTask)(model, learning_rate=0.05, warmup_steps=5)
    return model, fit(model, split, folder=folder, task=task, progress=False, **{"max_epochs": 8, **more})


@pytest.mark.parametrize("name", MODELS)
def test_bf16_reaches_what_fp32_reaches(cycle, tmp_path, name):
    found = {}
    for precision in ("fp32", "bf16"):
        model, fitted = train(cycle, tmp_path / precision, name, precision=precision)
        assert all(tensor.dtype == torch.float32 for tensor in model.parameters())
        found[precision] = fitted.score
    assert found["fp32"] > 0.9
    assert found["bf16"] == pytest.approx(found["fp32"], abs=0.05)


def test_pieces_of_a_batch_have_their_backward_pass_outside_of_autocast():
    weight, met = torch.nn.Parameter(torch.ones(3)), []

    def loss():
        doubled = 2 * weight
        doubled.register_hook(lambda _: met.append(torch.is_autocast_enabled("cpu")))
        return doubled.sum()

    with torch.autocast("cpu", torch.bfloat16):
        total = sum_of_losses([loss, loss], [weight])
    total.backward()
    assert met == [False, False]
    assert weight.grad.tolist() == [4.0, 4.0, 4.0]


def test_bf16_is_of_training_alone(cycle, tmp_path, monkeypatch):
    met = {"train": set(), "validate": set()}
    for kind, step in (("train", "training_step"), ("validate", "validation_step")):
        real = getattr(RankingTask, step)

        def watched(self, batch, index, real=real, kind=kind):
            met[kind].add(torch.is_autocast_enabled("cpu"))
            return real(self, batch, index)

        monkeypatch.setattr(RankingTask, step, watched)
    model, fitted = train(cycle, tmp_path, "sasrec", precision="bf16", max_epochs=1)
    assert met == {"train": {True}, "validate": {False}}
    found = evaluate(model.score_all, cycle, "validation", ks=(10,)).metrics["ndcg@10"]["mean"]
    assert fitted.score == pytest.approx(found, abs=1e-6)


def test_another_precision_does_not_resume(cycle, tmp_path):
    train(cycle, tmp_path, "sasrec", max_epochs=1)
    with pytest.raises(ConfigError, match=r"^precision is 'bf16', but the training to be resumed .* had 'fp32'"):
        train(cycle, tmp_path, "sasrec", max_epochs=1, precision="bf16", resume=True)


def test_other_precisions_are_refused(cycle, tmp_path):
    with pytest.raises(ConfigError, match="precision must be one of fp32, bf16, got 'fp16'"):
        train(cycle, tmp_path, "sasrec", precision="fp16")
