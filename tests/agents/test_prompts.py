"""Prompts are editions of files, which a version of an agent keeps."""

from pathlib import Path

import pytest

from agentsys.agents import prompts
from agentsys.agents.models import AgentVersion
from agentsys.agents.prompts import CURRENT, Prompts
from tests.support.priced import MODEL
from tests.support.rows import sql

FOLDER = Path(prompts.__file__).parent
NAMES = {path.name for path in (FOLDER / "v1").glob("*.md")}


@pytest.mark.parametrize("edition", range(1, CURRENT + 1))
def test_every_edition_has_every_prompt(edition: int) -> None:
    assert {path.name for path in (FOLDER / f"v{edition}").glob("*.md")} >= NAMES
    assert all(Prompts(edition=edition).text(name.removesuffix(".md")) for name in NAMES)


def test_an_edition_is_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "__file__", str(tmp_path / "__init__.py"))
    for edition in (7, 8):
        (tmp_path / f"v{edition}").mkdir()
        (tmp_path / f"v{edition}" / "act.md").write_text(f"Edition {edition}.\n")
    assert Prompts("Be brief.", 7).system("act") == "Edition 7.\n\n# This agent's instructions\n\nBe brief."
    assert Prompts(edition=8).system("act") == "Edition 8."
    prompts._file.cache_clear()


@pytest.mark.django_db
def test_a_version_keeps_its_edition_and_its_runs_are_told_by_it(submit, worker, priced, monkeypatch, agent) -> None:
    monkeypatch.setattr(Prompts, "text", lambda self, name: f"edition {self.edition} of {name}")
    version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, prompts=3, instructions="Be brief."
    )
    agent.current_version = version
    agent.save()
    priced.answers("Hello.")
    say = {"key": "say", "kind": "answer", "objective": "Say something."}
    worker.finish(submit([say], model=MODEL, answer="${say}"))
    assert priced.requests[0].system.startswith("edition 3 of answer")
    with pytest.raises(Exception, match="immutable"):
        sql("UPDATE agents_agentversion SET prompts = 4 WHERE id = %s", version.pk)
