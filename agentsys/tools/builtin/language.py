"""What a text is about: by its own words, deterministic, without a model."""

# ruff: noqa: RUF001  (the typographic marks are meant)

import re
from collections import Counter
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.tools.builtin import prose
from agentsys.tools.builtin.types import Text
from agentsys.tools.registry import tool

MAX_SCORED_SENTENCES = 20_000
_WORD = re.compile(r"[^\W\d_](?:['’]?[^\W_])*")
_STOP_WORDS = frozenset(
    """
    a about above after again against all also am an and any are aren't as at be because been before
    being below between both but by can can't cannot could did didn't do does doesn't doing don't
    down during each else few for from further had has have haven't having he her here hers herself
    him himself his how i if in into is isn't it it's its itself just let like made make many may me
    might more most much must my myself no nor not now of off on once one only or other our ours
    ourselves out over own per same shall she should shouldn't since so some such than that that's
    the their theirs them themselves then there there's these they this those through to too two
    under until up upon us use used using very via was wasn't we well were what what's when where
    whether which while who whom whose why will with within without won't would you your yours
    yourself der die das den dem des ein eine einen einem einer eines und oder aber nicht ist sind
    war wird werden zu im in auf mit von für als auch es sie er wir ihr ich sich bei nach aus wie
    nur noch so dass le la les un une des du de et ou mais ne pas est sont dans pour par sur avec ce
    cette il elle que qui el los las una y o no es son en por para con que se su
    """.split()  # noqa: SIM905
)


class Summary(TypedDict):
    summary: str
    sentences: list[str]


@tool(
    name="text.summarize",
    effect="pure",
    lane="compute",
    timeout_s=15.0,
    result_path="summary",
    examples=(
        "summarize the text",
        "summarize it in 3 sentences",
        "give a summary of the page",
        "shorten the text to 2 sentences",
    ),
)
def summarize(
    text: Text,
    sentences: Annotated[int, Field(ge=1, le=100, description="How many sentences to keep.")] = 3,
) -> Summary:
    """Summarize a text by its most telling sentences, word for word and in their order."""
    candidates = _candidates(text)
    weights = Counter(word for words in map(terms, candidates) for word in words)
    best = sorted(range(len(candidates)), key=lambda i: (-_score(candidates[i], i, weights), i))
    kept = [candidates[i] for i in sorted(best[:sentences])]
    return Summary(summary=" ".join(kept), sentences=kept)


def _candidates(text: str) -> list[str]:
    """Sentences worth quoting; of a text that has none, whatever there is."""
    found = list(dict.fromkeys(prose.sentences(prose.plain(text))))[:MAX_SCORED_SENTENCES]
    return [sentence for sentence in found if len(sentence.split()) >= 4] or found or prose.sentences(text)[:1]


def _score(sentence: str, position: int, weights: Counter[str]) -> float:
    """The mean weight of its distinct words, which favours neither long nor short; early ones say what it
    is about.  (Sum of frequencies: H. P. Luhn, The Automatic Creation of Literature Abstracts, 1958.)"""
    words = set(terms(sentence))
    if not words:
        return 0.0
    mean = sum(weights[word] for word in words) / (len(words) + 4)
    return mean * (1.0 + 0.5 / (1 + position))


class Term(TypedDict):
    term: str
    count: int


class Terms(TypedDict):
    terms: list[Term]


@tool(
    name="text.top_terms",
    effect="pure",
    lane="compute",
    timeout_s=10.0,
    result_path="terms",
    examples=(
        "find the 10 most frequent words",
        "list the top 5 terms of the text",
        "what are the most common words in it",
        "tell which word occurs most often",
        "find the keywords of the text",
    ),
)
def top_terms(text: Text, n: Annotated[int, Field(ge=1, le=1_000, description="How many terms.")] = 10) -> Terms:
    """List the most frequent words of a text with their counts, common words such as "the" left out."""
    counted = sorted(Counter(terms(text)).items(), key=lambda item: (-item[1], item[0]))
    return Terms(terms=[Term(term=term, count=count) for term, count in counted[:n]])


def terms(text: str) -> list[str]:
    """The words that carry meaning, in lower case."""
    words = (match[0].casefold().replace("’", "'").removesuffix("'s") for match in _WORD.finditer(text))
    return [word for word in words if 2 < len(word) <= 60 and word not in _STOP_WORDS]
