"""Records of settings to text and back."""

from __future__ import annotations

import pytest

from zoo.errors import ZooError
from zoo.prune import PLAIN, Options, Repair, Search
from zoo.utils import parse_setting, setting_types, settings_of, with_settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search.eps_tolerence=1", "did you mean search.eps_tolerance"),
        ("search.eps_tolerance=much", "search.eps_tolerance takes a number; got 'much'"),
        ("batch_size=0.5", "batch_size takes a whole number; got '0.5'"),
        ("repair.swap=perhaps", "true or false"),
        ("repair.swap", "'repair.swap' is no setting"),
    ],
)
def test_a_setting_that_is_none_says_why(text: str, message: str) -> None:
    with pytest.raises(ZooError, match=message):
        parse_setting(text, setting_types(Options))


def test_records_to_settings_and_back() -> None:
    options = Options(search=Search(eps_tolerance=0.5), repair=Repair(swap=False), batch_size=3)
    assert with_settings(Options(repair=PLAIN), settings_of(options)) == options
    types = setting_types(Options)
    assert settings_of(options).keys() == types.keys()
    given = {name: value for name, value in settings_of(options).items() if value is not None}
    assert settings_of(options).keys() - given.keys() == {"search.round_to"}  # None there is a rule of its own
    assert all(parse_setting(f"{name}={value}", types) == (name, value) for name, value in given.items())
