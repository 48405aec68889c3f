import json

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import KBinsDiscretizer, MultiLabelBinarizer, OrdinalEncoder

from recattn.data.features import FeatureEncoder
from recattn.errors import ArtefactError


def test_many_numbers_fall_into_eight_bins_of_like_size():
    ages = pd.DataFrame({"user": range(997), "age": np.random.default_rng(3).permutation(997)})
    encoder = FeatureEncoder.fit(ages, without=["user"])
    counts = np.bincount(encoder.transform(ages)[:, 0], minlength=9)
    assert encoder.sizes == (9,)
    assert counts[0] == 0
    assert counts[1:].min() >= 124
    beyond = pd.DataFrame({"age": [-5, 10**6, np.nan, "old"]})
    assert encoder.transform(beyond).ravel().tolist() == [1, 8, 0, 0]


def test_every_bin_of_a_skewed_field_is_used():
    ages = pd.DataFrame({"age": [1] * 500 + list(range(2, 40))})
    codes = FeatureEncoder.fit(ages, without=["user"]).transform(ages)
    assert set(codes.ravel()) == set(range(1, FeatureEncoder.fit(ages, without=["user"]).sizes[0]))


def test_a_gap_does_not_change_how_numbers_are_written():
    encoder = FeatureEncoder.fit(pd.DataFrame({"age": [18, 25]}))
    assert encoder.transform(pd.DataFrame({"age": [25.0, np.nan, 18.0]})).ravel().tolist() == [2, 0, 1]


def test_a_missing_field_is_unknown():
    encoder = FeatureEncoder.fit(pd.DataFrame({"age": [18, 25], "gender": ["F", "M"]}))
    assert encoder.transform(pd.DataFrame({"gender": ["M"]})).tolist() == [[0, 2]]
    assert encoder.transform(pd.DataFrame({"user": [7]})).tolist() == [[0, 0]]


def test_plain_data_keeps_the_encoder_whole():
    users = pd.DataFrame({"age": np.arange(101), "gender": ["F", "M"] * 50 + [None]})
    old = FeatureEncoder.fit(users)
    new = FeatureEncoder.from_dict(json.loads(json.dumps(old.to_dict())))
    assert new.fields == old.fields
    assert np.array_equal(new.transform(users), old.transform(users))
    with pytest.raises(ArtefactError, match="features' fields cannot be read"):
        FeatureEncoder.from_dict({"fields": [{"name": "age"}]})


def test_categories_are_those_of_scikit_learns_ordinal_encoder():
    fitted, asked = (pd.DataFrame({"brand": list(text)}) for text in ("dbbadd", "abxd"))
    oracle = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(fitted)
    assert FeatureEncoder.fit(fitted).transform(asked).tolist() == (oracle.transform(asked) + 1).tolist()


def test_bins_are_those_of_scikit_learns_quantiles():
    prices = pd.DataFrame({"price": np.random.default_rng(5).lognormal(size=211)})
    oracle = KBinsDiscretizer(8, encode="ordinal", strategy="quantile", quantile_method="linear").fit(prices)
    ours = FeatureEncoder.fit(prices).transform(prices)
    assert (ours == oracle.transform(prices) + 1).all()


def test_several_values_are_those_of_scikit_learns_binarizer():
    genres = pd.Series(["War|Drama", "", "Comedy", "Drama|Comedy|War", "Drama|Drama"])
    encoder = FeatureEncoder.fit(pd.DataFrame({"genres": genres}))
    codes = encoder.transform(pd.DataFrame({"genres": genres}))
    assert encoder.widths == (3,)
    assert codes.tolist() == [[3, 2, 0], [0, 0, 0], [1, 0, 0], [2, 1, 3], [2, 0, 0]]
    oracle = MultiLabelBinarizer().fit_transform(genres.str.split("|").map(lambda values: set(values) - {""}))
    ours = (codes[:, :, None] == np.arange(1, 4)).any(1)
    assert (ours == oracle).all()


def test_unknown_values_among_several_leave_their_places_to_known_ones():
    encoder = FeatureEncoder.fit(pd.DataFrame({"genres": ["War|Drama", "Comedy"]}))
    asked = pd.DataFrame({"genres": ["Opera|War|Jazz|Comedy|Drama", None, 7]}, index=[9, 9, 9])
    assert encoder.transform(asked).tolist() == [[3, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("fitted", "asked", "codes"),
    [
        ([1.0, 2.0, 3.5], ["1.0", "2", "x", "3.50", None], [1, 2, 0, 3, 0]),
        (["1.0", "2", "x"], [1.0, 2.0, 3.0], [1, 2, 0]),
        (["1", "1.0", "x"], ["1.0", "1", "1.00"], [2, 1, 1]),
        ([7, 8], ["007", "7.0", "1e0"], [0, 1, 0]),
        ([2**60, 2**60 + 1], [str(2**60 + 2), str(2**60)], [0, 1]),
        (["1|2", "2"], [1.0, 2.0], [1, 0, 2, 0]),
    ],
)
def test_a_number_is_the_same_category_however_it_is_written(fitted, asked, codes):
    """One cell that is no number makes text of a column of numbers, in one file and not in another."""
    encoder = FeatureEncoder.fit(pd.DataFrame({"price": fitted}))
    assert encoder.transform(pd.DataFrame({"price": asked})).flatten().tolist() == codes


def test_names_of_rows_are_left_out_and_repeated_text_is_kept():
    items = pd.DataFrame({"plot": [f"plot {i}" for i in range(23)], "maker": ["a", "b"] * 11 + ["c"]})
    assert FeatureEncoder.fit(items).names == ("maker",)


def test_a_fraction_changes_the_text_of_no_other_value():
    encoder = FeatureEncoder.fit(pd.DataFrame({"size": [1, 2, 3]}))
    assert encoder.transform(pd.DataFrame({"size": [1, 2.5, 3, np.nan]})).ravel().tolist() == [1, 0, 3, 0]
    halves = FeatureEncoder.fit(pd.DataFrame({"size": [0.5, 1, 2]}))
    assert halves.fields[0].categories == ("0.5", "1", "2")
    assert halves.transform(pd.DataFrame({"size": [1, 2]})).ravel().tolist() == [2, 3]


def test_fields_follow_one_another_in_the_codes():
    items = pd.DataFrame({"genres": ["War|Drama", "Drama"], "maker": ["b", "a"]})
    encoder = FeatureEncoder.fit(items)
    assert (encoder.sizes, encoder.widths) == ((3, 3), (2, 1))
    assert encoder.transform(items).tolist() == [[2, 1, 2], [1, 0, 1]]
    assert FeatureEncoder.from_dict(json.loads(json.dumps(encoder.to_dict()))).fields == encoder.fields


def test_values_between_bars_are_trimmed():
    genres = pd.DataFrame({"genres": ["War | Drama", "Drama", "Drama|War"]})
    (field,) = FeatureEncoder.fit(genres).fields
    assert field.categories == ("Drama", "War")
