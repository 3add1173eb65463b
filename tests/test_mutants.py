"""The tests of the minds are tested: every sabotage is noticed."""

from __future__ import annotations

import pytest

from tests.mutants import MUTANTS, Mutant, hunt


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_sabotage_is_noticed(mutant: Mutant):
    assert hunt(mutant), f"nothing noticed a mind that {mutant.name}"
