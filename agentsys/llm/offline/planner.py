"""From clauses to a plan: the best tool for each, what must come first, and what the answer is."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from agentsys.llm.offline import attempt, outcome, several
from agentsys.llm.offline.attempt import Draft
from agentsys.llm.offline.catalogue import Param, Profile, profiles, weights
from agentsys.llm.offline.clauses import LISTED, Clause, as_reading, clause, clauses
from agentsys.llm.offline.lexer import Token
from agentsys.llm.offline.outcome import SILENT
from agentsys.llm.offline.sheet import Miss, Unknown
from agentsys.llm.offline.sources import Source, Step, of_input
from agentsys.llm.offline.words import CONTROL, STORING, TIMES, stem
from agentsys.llm.types import ToolDef

MARGIN = 0.15  #: how much better than the next tool the best one must be
RECENT = 50  #: how many steps back a reference may reach
MAX_LITERALS = 40  #: of one clause
MAX_DEPTH = 3  #: of clauses within clauses
RESERVED = ("input", "files", "goal", "credential")
_KEY = re.compile(r"[a-z_][a-z0-9_]{0,40}")


class Planner:
    """Plans one goal; see ``plan``."""

    def __init__(
        self, tools: Sequence[ToolDef], *, files: Sequence[str] = (), input: Any = None, max_steps: int = 1_000
    ) -> None:
        self.profiles = profiles(tools)
        self.nouns: Mapping[str, float] = weights(self.profiles)
        self.values = frozenset().union(*(profile.values for profile in self.profiles))
        self.files, self.max_steps = files, max_steps
        self.input = of_input(input)
        self.steps: list[Step] = []
        self.last: list[Step] = []  # of the clause before
        self.answers: dict[str, str] = {}
        self.groups = 0
        self.depth = 0
        self.begun = 0  # how many of the steps were there before
        self.taken: frozenset[str] = frozenset()  # keys that are not free
        self.of: tuple[int, str, int] | None = None  # a group in turn, whose turn it is, how many steps there were

    def goes_on(self, steps: Sequence[Step], *, taken: Iterable[str]) -> None:
        """Plan what comes after these steps, which are there already."""
        self.steps, self.begun = list(steps), len(steps)
        self.taken = frozenset(taken)

    def plan(self, goal: str) -> dict[str, Any]:
        """
        Raises:
            GoalNotPlannable: naming the first clause that no tool can do.
        """
        verbs = frozenset().union(*(profile.verbs for profile in self.profiles))
        found = clauses(goal, verbs=verbs, nouns=self.nouns.keys(), files=self.files)
        for said in found:
            try:
                self._take(said)
            except Miss as miss:
                raise outcome.refusal(said, miss.reason) from None
        made = self.steps[self.begun :]
        if not made and not self.answers:
            raise outcome.refusal(clause([], goal.strip()), "it asks for nothing that a tool could do")
        return outcome.plan(made, self.answers)

    # --- Clauses ------------------------------------------------------------------------
    def _take(self, said: Clause) -> None:
        """
        Raises:
            Miss: no tool does this.
        """
        if not said.verb and not said.body and not said.text.strip(" :"):
            return
        self._refuse_control(said)
        if sum(bool(token.values) for token in said.body) > MAX_LITERALS:
            raise Miss(f"it holds more than {MAX_LITERALS} literals")
        said = as_reading(self._with_file(said))
        if found := outcome.asked_for(said, self.steps, self.sources(())):
            self.answers |= found
            return
        before = len(self.steps)
        try:
            # One by one: the next sees the last.
            made = [self._commit(draft, said) for draft in self._drafts(said)]
        except Miss:
            halves = several.with_saving(said)
            if not halves or len(self.steps) > before:
                raise
            for half in halves:
                self._take(half)
            return
        self._join(made)
        self.last = made

    def _join(self, made: list[Step]) -> None:
        """Steps of one clause are spoken of as "them", and so are those of like clauses in a row."""
        last = [step for step in self.last if step.profile is made[0].profile]
        alike = last if last and not made[0].uses & {step.key for step in last} else []
        alike = self._group(alike[0].group) or alike if alike else []
        if len(made) + len(alike) > 1:
            self.groups += 1
            for step in (*alike, *made):
                step.group = self.groups

    def _refuse_control(self, said: Clause) -> None:
        timed = any(token.kind == "time" for token in said.body)
        for word in (said.word, *(token.text for token in said.body if token.kind == "word")):
            if word in CONTROL and not (word == "until" and timed):
                raise Miss(f'"{word}" is more than a list of steps can say')
        for each, noun in pairwise(said.body):
            if each.text in ("every", "each") and (noun.kind == "number" or stem(noun.text) in TIMES):
                raise Miss(f'"{each.text} {noun.text}" is more than a list of steps can say')

    def _with_file(self, said: Clause) -> Clause:
        """ "the file" is the one that was sent along, until another one is spoken of."""
        known = any(kind == "file" for step in self.steps for kind, _ in step.literals)
        if len(self.files) != 1 or known or any(token.kind in LISTED for token in said.body):
            return said
        for at, token in enumerate(said.body):
            if token.text in ("file", "document", "attachment"):
                name = self.files[0]
                file = Token("file", name, token.start, token.end, (name,))
                return replace(said, body=(*said.body[:at], file, *said.body[at + 1 :]))
        return said

    def _drafts(self, said: Clause) -> Iterator[Draft]:
        """One draft, or several where the clause is about several things."""
        try:
            draft = self._best(said)
        except Miss as miss:
            tools: list[Profile] = []
            for single in several.one_by_one(said, miss):
                draft = self._best(single, tools or None)
                tools = [draft.step.profile]
                yield draft
            if not tools:
                raise
            return
        before = len(self.steps)
        if not draft.group:
            yield draft
        for member in self._group(draft.group) if draft.group else ():
            self.of = (draft.group, member.key, before)
            yield self._best(said, [draft.step.profile])
        self.of = None

    def _group(self, number: int) -> list[Step]:
        return [step for step in self.steps if step.group == number] if number else []

    def _best(self, said: Clause, tools: Sequence[Profile] | None = None) -> Draft:
        """The draft of the tool that fits best.

        Raises:
            Miss: none fits, or two fit equally well.
        """
        drafts: list[Draft] = []
        misses = [Miss("no tool does this", -2.0)]
        for profile in self._mentioned(said) or (self.profiles if tools is None else tools):
            try:
                drafts.append(self._draft(profile, said))
            except Miss as miss:
                misses.append(miss)
        if not drafts:
            raise max(misses, key=lambda miss: miss.score)
        drafts.sort(key=lambda draft: -draft.score)
        others = [d for d in drafts if d.step.profile is not drafts[0].step.profile]
        if others and drafts[0].score - others[0].score < MARGIN:
            names = f"{drafts[0].step.profile.name} or {others[0].step.profile.name}"
            raise Miss(f"it could mean {names}; name the tool", drafts[0].score)
        return drafts[0]

    def _draft(self, profile: Profile, said: Clause) -> Draft:
        named = profile.name.lower() in {said.word, *(token.text for token in said.body)}
        said = several.apart(said) if several.are_taken(profile) else said
        try:
            return attempt.draft(self, profile, said, named=named and "." in profile.name)
        except Unknown as unknown:
            known = [p for p in self.profiles if said.verb in p.verbs]
            if self.depth or not (said.verb in STORING or known == [profile]):
                raise
            try:
                return attempt.draft(self, profile, said, nested=True)
            except Miss:
                raise unknown from None

    def _mentioned(self, said: Clause) -> list[Profile]:
        """Tools called by their full name."""
        words = {said.word, *(token.text for token in said.body if token.kind == "word")}
        return [p for p in self.profiles if p.name.lower() in words and ("." in p.name or "_" in p.name)]

    # --- What an attempt asks ---------------------------------------------------------------
    def sources(self, inserted: Iterable[Step]) -> list[Source]:
        """The newest first, the input last; while a group has its turn (``of``), one member of it only."""
        steps = [*self.steps[: self.of[2] if self.of else None][-RECENT:], *inserted]
        found = [step.source() for step in reversed(steps) if step.profile.name not in SILENT]
        if self.of:
            group, member, _ = self.of
            found = [source for source in found if source.group != group or source.name == member]
        return [*found, *self.input]

    def loaded(self, kind: str, value: Any, inserted: list[Step]) -> Source:
        """The content of a file or an address, read now unless it has been."""
        literal = (kind, str(value))
        for step in reversed([*self.steps[-RECENT:], *inserted]):
            if literal in step.literals:
                if self._reads(step):
                    return step.source()
                break
        if self.depth >= MAX_DEPTH:
            raise Miss(f"no tool reads {value}")
        token = Token(kind, str(value), 0, 0, (value,))
        return self._insert(Clause(f"read {value}", "read", "", (token,)), inserted)

    def _reads(self, step: Step) -> bool:
        return len(step.literals) == 1 and not any(kind == "file" for _, kind in step.profile.results)

    def nested(self, body: tuple[Token, ...], by: Profile, inserted: list[Step]) -> Source:
        """The object of a clause as a clause for another tool: "the links of <address>".

        Raises:
            Miss: no tool answers it.
        """
        others = [profile for profile in self.profiles if profile is not by]
        return self._insert(clause((Token("word", "give", -1, 0), *body), ""), inserted, others)

    def readable(self, source: Source, inserted: list[Step], taken_as: Param) -> Source:
        """A page's text without its tags, where a tool makes it of HTML; ``taken_as`` text it may be JSON, too."""
        for profile in self.profiles:
            params = [param for param in profile.params if param.required]
            if [p.kind for p in params] == ["html"] and profile.results[0][1] == "text":
                made = self._made(inserted, profile, source) or Step(
                    profile,
                    {params[0].name: source.value(taken_as)},
                    "",
                    self._key("text", inserted),
                    uses=frozenset([source.name]),
                    group=source.group,
                )
                if made not in self.steps and made not in inserted:
                    inserted.append(made)
                return made.source()
        return source

    def _made(self, inserted: list[Step], profile: Profile, source: Source) -> Step | None:
        known = [*self.steps[-RECENT:], *inserted]
        return next((s for s in known if s.profile is profile and s.uses == {source.name}), None)

    def _insert(self, said: Clause, inserted: list[Step], tools: Sequence[Profile] = ()) -> Source:
        self.depth += 1
        # What nobody asked for in so many words is done by tools that do no harm.
        harmless = [profile for profile in tools or self.profiles if not profile.tool.careful]
        try:
            draft = self._best(said, harmless)
        except Miss as miss:
            raise Unknown(miss.reason, miss.score - 2) from None
        finally:
            self.depth -= 1
        for step in [*draft.inserted, draft.step]:
            step.key = step.key or self._key(said.word or step.profile.lead, inserted, step.profile)
            step.title = step.title or draft.step.profile.name
            inserted.append(step)
        return draft.step.source()

    # --- The plan -------------------------------------------------------------------------
    def _commit(self, draft: Draft, said: Clause) -> Step:
        last = {step.key for step in self.last}
        waits = any(step.profile.name in SILENT for step in self.last) or (
            draft.step.profile.name in SILENT and said.joint not in ("", "and", "&")
        )
        for step in [*draft.inserted, draft.step]:
            step.key = step.key or self._key(said.word or step.profile.lead, [], step.profile)
            step.after |= self._touching(step)
            if (said.ordered or waits) and not step.uses & (last | {other.key for other in draft.inserted}):
                step.after |= last
            step.after -= step.uses | {step.key}
            self.steps.append(step)
        if len(self.steps) - self.begun > self.max_steps:
            raise Miss(f"the plan would have more than {self.max_steps:,} steps")
        return draft.step

    def _touching(self, step: Step) -> frozenset[str]:
        """The last step that another tool did with the same file."""
        files = {literal for literal in step.literals if literal[0] == "file"}
        for other in reversed(self.steps[-RECENT:]):
            if files & other.literals and other.profile is not step.profile:
                return frozenset([other.key])
        return frozenset()

    def _key(self, word: str, inserted: list[Step], profile: Profile | None = None) -> str:
        """A readable key that is still free: the verb, or the tool's last name."""
        base = word if _KEY.fullmatch(word) else (profile.name.rpartition(".")[2][:40] if profile else "step")
        taken = {step.key for step in (*self.steps, *inserted)} | {*RESERVED, *self.taken}
        if base not in taken:
            return base
        return next(key for n in range(2, len(taken) + 3) if (key := f"{base}_{n}") not in taken)
