"""The English that the offline planner brings along.  No tool is named here."""

import re
from collections.abc import Collection
from functools import lru_cache


def listed(words: str) -> frozenset[str]:
    """Words written one after the other, as a set."""
    return frozenset(words.split())


_COUNTED = "one two three four five six seven eight nine ten eleven twelve"
NUMBERS = {word: number for number, word in enumerate(_COUNTED.split(), 1)}
#: Seconds in a unit of time, by its stem.
UNITS: dict[str, float] = {
    "second": 1,
    "sec": 1,
    "s": 1,
    "minut": 60,
    "min": 60,
    "m": 60,
    "hour": 3600,
    "h": 3600,
    "hr": 3600,
}
UNITS |= {"day": 86_400, "week": 604_800, "millisecond": 0.001, "ms": 0.001}

#: Words that carry a sentence and have no meaning that a tool could match.
FUNCTION = listed(
    "a an the this that these those it its they them their both all some any me my us our you your i we he she of in "
    "into on onto to from at by for with as using via about there here is are was were be been am do does did has have "
    "had having which who whom whose what what's it's how much often please whole entire full given following same "
    "complete resulting just again too out up over then and so called named inside within each or such would one "
    "instead yourself every use back contain contains containing include includes tool"
)
#: Words before the verb that only lead up to it.
LEADS = listed(
    "please kindly can could would will you i we want need like to let lets let's us should must just now also first "
    "firstly second secondly third thirdly then next finally lastly go ahead try help me i'd after and so ok okay hi "
    "hello hey make issue do following these tasks perform carry work through steps step task goal your my is & ,"
)
#: Words that make no clause.
POLITE = LEADS | listed("thanks thank cheers much very dear welcome")
#: Verbs that ask for an answer and say nothing of how to come by it.
NEUTRAL = listed(
    "tell give show report return print answer display present state know reply respond output say what what's which "
    "who when where is are does do did was were"
)
PREPOSITIONS = listed("in into on onto to from at by for with as of using given inside within")
TARGETS = listed("to into as onto in")
PLURALS = listed("them they these those their both all each everything")
PRONOUNS = PLURALS | listed("it its this that")
DETERMINERS = listed("the a an this that these those its their my our your each all every some any")
ORDERED = listed("then afterwards afterward next finally lastly thereafter subsequently")
#: What a plan has no words for: refused, never guessed.
CONTROL = listed(
    "if unless while whenever until otherwise else not never don't dont doesn't cannot can't no without except "
    "instead or nor either neither repeat loop before twice maybe only once"
)
#: Verbs of reckoning, and their signs.
SIGNS = {"add": "+", "sum": "+", "multiply": "*", "subtract": "-", "divid": "/"}
#: Common verbs, which open a clause whether or not a tool knows them.
VERBS = (
    "compare translate email mail delete remove send book buy order call draw paint plot sort filter merge join "
    "rename copy move convert create make build generate write read open close fetch download get count summarize "
    "extract find search list save store post run execute compute calculate wait sleep split publish upload deploy "
    "install update insert replace check verify validate analyze explain describe classify rank rate schedule "
    "remind pay sing dance think reply forward notify encrypt decrypt compress sum add subtract multiply divide "
    "double reverse group evaluate append approve determine use apply supply"
)
SYNONYMS = (
    "fetch download retrieve get load request grab pull visit read open access crawl take",
    "read load open fetch view cat take",
    "write save store put dump record create copy",
    "count tally",
    "summarize shorten condense digest abstract summary",
    "compute calculate evaluate solve work determine",
    "add subtract multiply divide sum compute calculate plus minus",
    "run execute",
    "wait sleep pause delay",
    "list enumerate collect find extract",
    "split divide break cut chunk separate segment",
    "extract find collect pull gather get take",
    "post send submit push notify",
    "query select take",
    "convert turn transform strip",
    "frequent common top keyword popular",
    "distinct unique different",
    "text content body prose",
    "link hyperlink href url",
    "url address",
    "page website webpage site html",
    "file document attachment",
    "word term keyword",
    "section heading chapter",
    "character char",
    "time clock date today current",
    "email mail e-mail",
    "weekday day",
    "occur occurrence appear",
)


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """The word without its endings, crudely: fetched, fetching, fetches -> fetch; lines -> lin."""
    word = re.sub(r"['’]s?$", "", word.lower())  # noqa: RUF001 - as people type it
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 4 and re.search(r"(ss|sh|ch|x|z)es$", word):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    word = _without_suffix(word)
    word = word[:-1] if len(word) > 3 and word.endswith("e") else word
    return word[:-1] + "z" if len(word) > 6 and word.endswith("is") else word


def _without_suffix(word: str) -> str:
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            short = word[: -len(ending)]
            doubled = len(short) > 3 and short[-1] == short[-2] and short[-1] not in "slz"
            return short[:-1] if doubled else short
    return word


def stems(text: str) -> frozenset[str]:
    """The stems of a name or a phrase, split at _ . and capitals too."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return frozenset(stem(word) for word in re.findall(r"[^\W_]+", spaced))


def stemmed(words: str) -> frozenset[str]:
    """Words written one after the other, as the set of their stems."""
    return frozenset(map(stem, words.split()))


#: After "every" and "each" these are a repetition.
TIMES = UNITS.keys() | stemmed("month year morning noon evening night time monday friday sunday weekday weekend")
#: Nouns for whatever came out before.
GENERIC = stemmed("result outcome output response value data content thing answer")
#: Parts and choices: where a tool does not know the word, leaving it out would do something else.
SELECTIVE = stemmed(
    "first second third fourth last latest next previous top bottom half part begin start end chapter paragraph "
    "section line row column page word sentence title introduction conclusion random newest oldest longest shortest"
)
#: Verbs of handing something over: they take a list or an object as text too.
STORING = stemmed("write save store put record create post send submit notify log print echo publish push append copy")


def _groups() -> dict[str, set[int]]:
    groups: dict[str, set[int]] = {}
    for number, line in enumerate(SYNONYMS):
        for word in line.split():
            groups.setdefault(stem(word), set()).add(number)
    return groups


_GROUPS = _groups()
KNOWN_VERBS = frozenset(map(stem, VERBS.split()))


def likeness(word: str, others: Collection[str]) -> float:
    """How well a stem fits a set of stems: 1 itself, 0.6 a synonym of one, 0 neither."""
    if word in others:
        return 1.0
    groups = _GROUPS.get(word)
    return 0.6 if groups and any(groups & _GROUPS.get(other, set()) for other in others) else 0.0
