"""A model as plain data and back, without ever running what somebody else's file names."""

import inspect
import json
import os

import numpy as np
import pytest
import yaml
from torch import nn

import recattn.models as rmodels
import recattn.nn as rnn
from recattn.errors import ConfigError
from recattn.models import DIN, TargetAttention, build, describe, model_path
from recattn.models.specification import find_factory

SPECIAL = {
    "plain": TargetAttention(11, dim=4),
    "nested": TargetAttention(
        11,
        dim=6,
        num_heads=3,
        scorer=rnn.ActivationUnitScorer(2, 2, hidden_dims=(5, 3), activation="prelu"),
        weighting=rnn.TopK(3, temperature=0.5),
        separate_tables=False,
        readout_dims=(7, 5),
        readout_activation="prelu",
        max_length=13,
        use_times=True,
        time_aware=True,
        rating_levels=(0.5, 1.0),
        profile_sizes=(3, 2),
        transitions=2,
        dropout=0.25,
    ),
    "din-paper": DIN(11, dim=4),
    "din-code": DIN(11, dim=4, form="code", hidden_dims=(5,)),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_describe_and_build_are_inverse(name):
    model = SPECIAL[name]
    specification = json.loads(json.dumps(describe(model)))
    twin = build(specification)
    assert repr(twin) == repr(model)
    assert describe(twin) == describe(model)
    assert twin.state_dict().keys() == model.state_dict().keys()
    for attribute in inspect.signature(TargetAttention).parameters:
        assert repr(getattr(twin, attribute)) == repr(getattr(model, attribute)), attribute


def test_a_description_names_packages_and_holds_plain_data():
    assert describe(DIN(11, dim=4, form="code"))["class_path"] == "recattn.models.TargetAttention"
    assert describe(TargetAttention(11, scorer=rnn.BilinearScorer(32, 32)))["init_args"]["scorer"] == {
        "class_path": "recattn.nn.BilinearScorer",
        "init_args": {"query_dim": 32, "key_dim": 32},
    }


def test_presets_are_built_by_name_and_arguments_overridden():
    model = build({"class_path": "recattn.models.DIN", "init_args": {"num_items": 3, "dim": 4}}, num_items=11)
    assert model.num_items == 11
    assert model.dim == 4
    assert build({"class_path": "recattn.nn.DotScorer"}).__class__ is rnn.DotScorer
    assert build({"class_path": "recattn.nn.DotScorer", "init_args": None}).__class__ is rnn.DotScorer


OUTSIDE = [
    "os.system",
    "recattn.cli.main",
    "builtins.eval",
    "builtins.exec",
    "subprocess.run",
    "torch.load",
    "eval",
    "",
]
MISSING = [
    "recattn.models.Nothing",
    "recattn.models.importlib",
    "recattn.models.target_attention.TargetAttention",
    "recattn.models.specification.importlib",
    "recattn.models.__class__",
    "recattn.nn.torch",
    "recattn.nn.masked_softmax",
    "recattn.nn.full_mask",
    "recattn.nn.Attended",
    "recattn.nn.Scorer",
    "recattn.models.describe",
    "recattn.models.Specification",
    "recattn.nn.__builtins__",
]


@pytest.mark.parametrize("path", [*OUTSIDE, *MISSING])
def test_names_that_are_no_model_are_refused_and_not_called(path, monkeypatch):
    monkeypatch.setattr(os, "system", lambda _: pytest.fail("was called"))
    for arguments in ({}, {"command": "echo"}):
        with pytest.raises(ConfigError, match=r"is not a model of recattn|does not exist"):
            build({"class_path": path, "init_args": arguments})
    with pytest.raises(ConfigError, match=r"is not a model of recattn|does not exist"):
        build(
            {
                "class_path": "recattn.models.TargetAttention",
                "init_args": {"num_items": 3, "scorer": {"class_path": path}},
            }
        )


@pytest.mark.parametrize("name", ["build", "Ranker"])
def test_what_makes_no_model_of_its_own_is_refused(name):
    with pytest.raises(ConfigError, match="does not exist"):
        find_factory(f"recattn.models.{name}")


def test_wrong_arguments_are_named_with_those_that_are_allowed():
    with pytest.raises(ConfigError, match=r"TargetAttention: .*'depth'.*num_items, dim, num_heads"):
        build({"class_path": "recattn.models.TargetAttention", "init_args": {"num_items": 3, "depth": 2}})
    with pytest.raises(ConfigError, match=r"TargetAttention: missing .*'num_items'"):
        build({"class_path": "recattn.models.TargetAttention", "init_args": {}})
    with pytest.raises(ConfigError, match="num_heads must divide dim"):
        build({"class_path": "recattn.models.TargetAttention", "init_args": {"num_items": 3, "num_heads": 7}})


@pytest.mark.parametrize("path", ["recattn.nn.DotScorer", "recattn.nn.Sigmoid"])
def test_arguments_for_a_layer_that_takes_none_are_refused(path):
    with pytest.raises(ConfigError, match=r"'dim'"):
        build({"class_path": path, "init_args": {"dim": 3}})


@pytest.mark.parametrize("specification", [None, "recattn.models.DIN", [], {}, {"class_path": 3}, {"init_args": {}}])
def test_what_is_no_specification_is_refused(specification):
    with pytest.raises(ConfigError, match="a specification has a class_path and init_args"):
        build(specification)


@pytest.mark.parametrize("arguments", [[1, 2], "num_items", 3])
def test_arguments_that_are_no_mapping_are_refused(arguments):
    with pytest.raises(ConfigError, match="init_args"):
        build({"class_path": "recattn.models.DIN", "init_args": arguments})


def test_a_module_that_forgets_an_argument_cannot_be_described():
    class Forgetful(nn.Module):
        def __init__(self, width):
            super().__init__()

    with pytest.raises(ConfigError, match="Forgetful does not keep its argument 'width' as an attribute"):
        describe(Forgetful(3))


def test_modules_from_elsewhere_are_described_but_not_built():
    specification = describe(nn.Softmax(dim=-1))
    assert specification == {"class_path": "torch.nn.modules.activation.Softmax", "init_args": {"dim": -1}}
    with pytest.raises(ConfigError, match="is not a model of recattn"):
        build(specification)


def test_every_export_is_a_model_or_known_to_be_none():
    none = {"NextItemModel", "Ranker", "Slate", "Specification", "build", "build_ranker", "describe", "model_path"}
    for name in set(rmodels.__all__) - none:
        assert callable(find_factory(f"recattn.models.{name}"))
        for short in (name, f"recattn.{name}", f"recattn.models.{name}"):
            assert model_path(short) == f"recattn.models.{name}"


@pytest.mark.parametrize(
    "name", ["Ranker", "NextItemModel", "build_ranker", "os.DIN", "recattn.nn.DotScorer", "din", ""]
)
def test_a_name_of_no_model_is_told_with_the_models(name):
    with pytest.raises(
        ConfigError, match=r"is not a model of recattn; these are: BERT4Rec, BST, .*, TargetRanker"
    ) as told:
        model_path(name)
    assert not any(other in str(told.value).partition("these are")[2] for other in ("build", "Slate,", "NextItem"))


def test_integers_of_numpy_are_written_down_as_pythons():
    made = DIN(np.int64(5), dim=np.int64(4), readout_dims=(np.int64(3),))
    written = yaml.safe_load(yaml.safe_dump(describe(made)))
    assert (written["init_args"]["num_items"], written["init_args"]["readout_dims"]) == (5, [3])


def test_numpy_numbers_are_numbers():
    for model in (
        rmodels.SASRec(11, dim=np.int64(8), num_layers=1, dropout=np.float64(0.1)),
        rmodels.BERT4Rec(11, dim=np.int64(8)),
        rmodels.NARM(11, dim=np.int64(8)),
        rmodels.DIEN(11, dim=np.int64(8)),
        rmodels.BST(11, dim=np.int64(8)),
        rmodels.TargetAttention(11, dim=8, rating_levels=tuple(np.array([1.0, 2.0]))),
    ):
        assert describe(build(yaml.safe_load(yaml.safe_dump(describe(model))))) == describe(model)
    assert rnn.AlibiBias(np.int64(4)).slopes == rnn.AlibiBias(4).slopes
