"""The mutants are still those of the code as it is; ``make mutants`` plays them."""

import shutil

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.play import ROOT, apply


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
def test_a_guard_can_be_removed_and_its_tests_exist(mutant, tmp_path):
    for name, _, _ in mutant.changes:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for change in mutant.changes:
        apply(change, tmp_path)
    assert [test for test in mutant.tests if not (ROOT / test.split("::")[0]).exists()] == []


def test_a_change_that_does_not_apply_says_so(tmp_path):
    (tmp_path / "file").write_text("twice twice")
    for text in ("twice", "never"):
        with pytest.raises(LookupError, match="times"):
            apply(("file", text, ""), tmp_path)


def test_every_guard_has_a_name_of_its_own():
    names = [mutant.guard for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= 35
