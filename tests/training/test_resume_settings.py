import pytest

from recattn.errors import ConfigError
from recattn.models import TargetAttention
from recattn.training import RankingTask, fit


def test_a_training_is_resumed_with_its_own_settings_only(cycle, tmp_path):
    def model() -> TargetAttention:
        return TargetAttention(cycle.histories.num_items, dim=4, max_length=7, transitions=0)

    fit(model(), cycle, folder=tmp_path, max_epochs=1, progress=False)
    with pytest.raises(ConfigError, match=r"seed is 5, but the training to be resumed .* had 0"):
        fit(model(), cycle, folder=tmp_path, max_epochs=1, seed=5, resume=True, progress=False)
    slower = model()
    task = RankingTask(slower, learning_rate=1e-3)
    with pytest.raises(ConfigError, match=r"^learning_rate is 0.001, .* had 0.003: go on .* train anew .*--overwrite"):
        fit(slower, cycle, task=task, folder=tmp_path, max_epochs=1, resume=True, progress=False)
    fit(model(), cycle, folder=tmp_path, max_epochs=1, seed=5, progress=False)
