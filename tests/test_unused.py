import pytest

from recattn.commands.unused import check_unused
from recattn.errors import ConfigError


def test_what_an_objective_has_no_use_for_is_refused():
    check_unused("objective 'next_item'", {"threshold": None})
    with pytest.raises(
        ConfigError, match=r"threshold is 3\.0, but objective 'next_item' has no use for it: leave it out"
    ):
        check_unused("objective 'next_item'", {"monitor": None, "threshold": 3.0})
