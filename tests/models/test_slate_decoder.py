import pytest
import torch

from recattn.batch import History
from recattn.errors import ConfigError
from recattn.models import SlateDecoder

NUM_ITEMS = 13
HISTORY = History(torch.tensor([[3, 5, 7, 2, 9], [4, 6, 0, 0, 0], [0, 0, 0, 0, 0]]), torch.tensor([5, 2, 0]))
POSITIONS = torch.tensor([[5, 2], [2, 1], [0, 0]])


def make(**more):
    torch.manual_seed(1)
    model = SlateDecoder(NUM_ITEMS, dim=12, slate_length=4, **more).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
        model.item_table.weight[0] = 0
    return model


def slates():
    generator = torch.Generator().manual_seed(2)
    return torch.randint(1, NUM_ITEMS + 1, (3, 2, 4), generator=generator)


def test_a_slate_has_no_repeats_and_nothing_seen():
    items, logits = make().decode(HISTORY, k=4)
    for row, slate in enumerate(items.tolist()):
        assert len(set(slate)) == 4
        assert not set(slate) & set(HISTORY.items[row].tolist())
        assert all(1 <= item <= NUM_ITEMS for item in slate)
    assert logits.isfinite().all()


def test_what_may_not_come_does_not_and_what_was_seen_may_on_request():
    model = make()
    allowed = torch.zeros(1, NUM_ITEMS + 1, dtype=torch.bool)
    allowed[0, [0, 3, 5, 8, 11]] = True
    assert set(model.decode(HISTORY, allowed=allowed).items[1].tolist()) == {3, 5, 8, 11}
    assert set(model.decode(HISTORY, allowed=allowed, filter_seen=False).items[0].tolist()) == {3, 5, 8, 11}
    items, logits = model.decode(HISTORY, allowed=allowed)
    assert set(items[0, :2].tolist()) == {8, 11}
    assert items[0, 2:].tolist() == [0, 0]
    assert (logits[0, 2:] == -torch.inf).all()


def test_decoding_is_greedy_under_teacher_forcing():
    """Given the slate, all of its steps at once say what each said when it was made."""
    model = make()
    items, logits = model.decode(HISTORY)
    states = model.slate_states(HISTORY, HISTORY.lengths[:, None], items[:, None])[:, 0]
    scores = states @ model.item_embeddings().T
    for step in range(4):
        torch.testing.assert_close(scores[:, step].gather(1, items[:, step, None])[:, 0], logits[:, step])
        for row in range(3):
            left = set(range(1, NUM_ITEMS + 1)) - set(items[row, :step].tolist()) - set(HISTORY.items[row].tolist())
            assert scores[row, step, sorted(left)].max() == scores[row, step, items[row, step]]


def test_the_first_choice_is_the_best_of_score_all():
    model = make()
    scores = model.score_all(HISTORY)[:2].double().scatter(1, HISTORY.items[:2], -torch.inf)
    assert model.decode(HISTORY, k=1).items[:2, 0].tolist() == scores.argmax(1).tolist()


def test_later_steps_depend_on_the_items_before_them_and_not_on_those_after():
    model = make()
    before = model.slate_states(HISTORY, POSITIONS, slates())
    changed = slates()
    changed[:, 0, 2] = changed[:, 0, 2] % NUM_ITEMS + 1
    after = model.slate_states(HISTORY, POSITIONS, changed)
    torch.testing.assert_close(after[:, 0, :3], before[:, 0, :3])
    assert not torch.allclose(after[:, 0, 3], before[:, 0, 3])
    torch.testing.assert_close(after[:, 1], before[:, 1])


def test_slates_at_many_moments_equal_slates_one_by_one():
    model = make(num_layers=2, max_length=3)
    model.max_length = 5
    together = model.slate_states(HISTORY, POSITIONS, slates())
    for column in range(2):
        alone = model.slate_states(HISTORY, POSITIONS[:, column : column + 1], slates()[:, column : column + 1])
        torch.testing.assert_close(together[:, column : column + 1], alone)


def test_the_history_decides():
    model = make()
    other = HISTORY._replace(items=HISTORY.items.flip(0), lengths=HISTORY.lengths.flip(0))
    assert not torch.allclose(
        model.slate_states(HISTORY, POSITIONS, slates())[0], model.slate_states(other, POSITIONS, slates())[0]
    )


@pytest.mark.parametrize("k", [0, 5])
def test_slates_of_another_length_are_refused(k):
    with pytest.raises(ConfigError, match=rf"k must be in 1..slate_length \(4\), got {k}"):
        make().decode(HISTORY, k=k)


def test_longer_slates_than_learned_are_refused():
    with pytest.raises(ConfigError, match="at most slate_length"):
        make().slate_states(HISTORY, POSITIONS, torch.ones(3, 2, 5, dtype=torch.int64))


def test_allowed_must_cover_the_catalogue():
    with pytest.raises(ConfigError, match="allowed must be boolean"):
        make().decode(HISTORY, allowed=torch.ones(1, NUM_ITEMS, dtype=torch.bool))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 10}, "dim must be a multiple of 2 num_heads"),
        ({"slate_length": 0}, "slate_length must be an integer >= 1, got 0"),
        ({"num_layers": 0}, "num_layers must be an integer >= 1, got 0"),
        ({"max_length": 1}, "max_length must be an integer >= 2, got 1"),
        ({"dropout": 1.5}, "dropout must be in"),
        ({"embedding_std": -1.0}, "embedding_std must be a finite number > 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        SlateDecoder(NUM_ITEMS, **arguments)
