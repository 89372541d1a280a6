"""The option letter that a text declares: read where it is said, never guessed from words like "A".

Kinds of saying, the first that occurs decides: marked as the answer (`<answer>B</answer>`, `\\boxed{B}`,
"final answer: B"); declared in words ("the answer is B", "B is correct", "I choose B", in twenty languages);
merely named ("option B.", "B) the cat", a line of its own). Two letters of one kind are no answer. What is
ruled out ("not option B", "B is wrong"), asked ("is it B?") or one of a list ("A or B") is not declared.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

_EDGE = r"(?<![0-9A-Za-zÀ-ɏ'’])"
# Not a part of a longer name: B2, B's, C++, U.S., X-ray.
_ENDS = r"(?![0-9A-Za-zÀ-ɏ'’+#&]|[-–.][0-9A-Za-zÀ-ɏ])"
_CLAUSE_END = r"(?=\s*(?:$|[.,;:!?)\]}>/|\n。，；！？」』\"”]))"
_WRAPPED = r"[(\[{'\"“‘«「『]\s?(?P<wrapped>[A-Za-z])\s?[)\]}'\"”’»」』]"
_AT_END = rf"{_EDGE}(?P<end>[A-Za-z]){_ENDS}{_CLAUSE_END}"
# A and I are words, too: what may follow them there is no noun and no verb.
_BEFORE_WORDS = (
    rf"{_EDGE}(?P<upper>[B-HJ-Z]{_ENDS}|"
    rf"[AI]{_ENDS}(?=\s+(?:because|since|as|which|due|given|but)\b|\s*[-–—(]))"
)
_LETTER = rf"(?:{_WRAPPED}|{_AT_END}|{_BEFORE_WORDS})"
_NAMED = rf"(?:{_WRAPPED}|{_AT_END})"
_GAP = r"[^\w≠¬!]"  # what may stand between a word and its letter, but no sign of "not"

_ANSWER = (
    "answer|ans|response|solution|(?:correct|right|best) (?:option|choice|letter|one)|"
    "(?:option|choice)(?= is )|"
    "(?:alternativa|opção|opción) corr?ec?ta|antwort|lösung|réponse|respuesta|"
    "resposta|risposta|antwoord|svar|svaret|vastaus|odpowiedź|cevap|jawaban|đáp án|ответ|відповідь|απάντηση|"
    "答案|正确选项|正確選項|正解|答え|回答|정답|답|उत्तर|الإجابة|الجواب|คำตอบ"
)
_OF = r"(?:\s+(?:to|for)\s+(?:the|this|your)\s+(?:question|problem))?(?:\s+(?:option|choice|letter))?"
_CORRECT = r"(?:\s+(?:correcta?|correta|corretta|juste|exacte))?"
_IS = (
    r"(?:(?:is|would be|should be|must be|has to be|will be|ist|lautet|est|es|é|è|är|er|on|to|adalah|là)"
    r"(?![A-Za-zÀ-ɏ])"
    r"|应该是|應該是|应为|是|为|為|选|選|は|が|은|는|है|هي|هو|คือ)?"
)
_SURELY = (
    r"(?:(?:most\s+)?(?:likely|probably|clearly|definitely|obviously|simply|therefore|thus|certainly)\s+)?"
)
_THE = (
    r"(?:a\s+(?=letra|alternativa|opção))?(?:(?:the|la|el|le|die|der|il|option|choice|letter|answer|opción|opção|lettre|letra|lettera|buchstabe|"
    r"antwort|alternativa|вариант|选项|選項)(?![A-Za-zÀ-ɏ])\s*){0,3}"
)
_AFTER_ANSWER = rf"{_OF}{_CORRECT}{_GAP}{{0,4}}(?i:{_IS}){_GAP}{{0,6}}(?i:{_SURELY}{_THE}){_GAP}{{0,3}}"
_WORD = r"(?<![A-Za-zÀ-ɏ])"
_NO_WORD = r"(?![A-Za-zÀ-ɏ])"

_MARKED = (re.compile(rf"(?i:final answer){_NO_WORD}{_AFTER_ANSWER}{_LETTER}"),)
_DECLARED = (
    re.compile(rf"{_WORD}(?i:{_ANSWER}){_NO_WORD}(?i:{_AFTER_ANSWER}){_LETTER}"),
    re.compile(
        rf"{_WORD}(?i:choos(?:e|ing)|chose|pick|select(?:ed)?|go(?:ing)? with|opt for|i(?:['’]d| would) say|"
        rf"wähle|choisis|elijo|escolho|scelgo|выбираю){_NO_WORD}\s*:?\s*(?i:{_THE}){_LETTER}"
    ),
    re.compile(rf"(?:应选|應選|故选|故選|选择|選擇|选|選)(?:项|項)?{_GAP}{{0,3}}{_LETTER}"),
    re.compile(
        rf"{_WORD}(?i:(?:it|this|that)(?:\s+is|\s+must be|\s+should be|\s+has to be|['’]s)|"
        rf"therefore,?|thus,?|hence,?)"
        rf"\s+(?i:{_SURELY}{_THE})"
        rf"(?:{_WRAPPED}|{_EDGE}(?P<upper>[A-HJ-Z]){_ENDS}{_CLAUSE_END})"
    ),
)
_RIGHT = re.compile(
    rf"{_EDGE}[(\['\"“]?(?P<upper>[A-Z])[)\]'\"”]?"
    r"(?:\s+(?i:is|must be|should be|ist|est|es|é|è)\s+(?i:(?:the|la|die|le|el|il)\s+)?"
    r"(?i:(?:most|only|clearly|definitely|probably|likely)\s+)*"
    r"(?i:correct|right|best|true|accurate|appropriate|answer|richtig|korrekt|juste|bonne|respuesta|resposta)"
    r"|\s*(?:选项|選項|项)?\s*(?:是|为)?\s*最?(?:正确|正確|对的))"
)
_MAY_STAND_BEFORE_RIGHT = re.compile(
    r"(?:^|[.!?;:,\n。，；：]|\b(?i:option|choice|answer|letter|that|think|believe|say|so|thus|hence|therefore|and|but|"
    r"because|clearly|only|antwort|réponse|opción|opção)|选项|選項)[^\w]*$"
)
_OPTION = re.compile(
    rf"{_WORD}(?i:option|choice|letter|opción|opção|buchstabe|选项|選項){_NO_WORD}{_GAP}{{0,3}}{_NAMED}"
)
_FIRST = re.compile(
    r"\W*(?:(?P<wrapped>[A-Za-z])\s*[).:\]](?=\s|$)|(?P<upper>[A-Z])\s+[-–—]\s|(?P<end>[A-HJ-Z])"
    r"(?:\s*,(?=\s)|\s+(?=(?:because|since|as)\b)))"
)
_ALONE = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
_MARKER = re.compile(rf"{_EDGE}([A-Z])[).:](?=\s|$)")

_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|$)|\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}", re.DOTALL | re.I)
_THOUGHTS = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.I)
_LATEX = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathit)\s*\{([^{}]*)\}")
_MARKUP = re.compile(r"[*_`$]+")

_BREAK = re.compile(
    r"[.!?;:,\n。！？；，、：]|\b(?:but|however|so|therefore|thus|hence|because|aber|mais|pero|mas|donc)\b"
    r"|而是|但|所以|因此",
    re.I,
)
_NO_DOUBT = re.compile(
    r"\b(?:no|without(?: a| any)?|not a|beyond(?: any| a)?) (?:doubt|question)|not only", re.I
)
_DENIED_BEFORE = re.compile(
    r"n['’]t\b|\b(?:not|no|never|neither|nor|cannot|without|instead of|rather than|except|besides|exclud\w+|"
    r"eliminat\w+|rul(?:e|es|ed|ing) out|reject\w*|wrong|incorrect|unlikely|if|whether|unless|suppos\w+|"
    r"assum\w+|nobody|none|either|nicht|kein\w*|weder|ne|pas|non|ni|nunca|não|nem|не|нет|ikke|inte|niet|geen|nie)\b"
    r"|不|非|没|沒|无|無|除|아니|ない",
    re.I,
)
_DENIED_AFTER = re.compile(
    r"\W*(?:(?:is|was|would|could|can|should|must|might|may|seems?|looks?|appears?|does|did|do|has|ist|est|es|é|è)\b"
    r"(?:\s+\w+){0,3}?\s+(?:not|never|wrong|incorrect|false|ruled|eliminated|excluded|impossible|unlikely|"
    r"out|nicht|falsch|faux|pas|incorrecta?|errada?)\b|(?:is|was|ca|could|does|did|wo|would|should)n['’]t\b|cannot\b"
    r"|(?:wrong|incorrect|false|ruled out|eliminated)\b"
    r"|\s*(?:选项|選項|项)?\s*(?:是)?\s*(?:不|错|錯|误|非|ではな))",
    re.I,
)
_JOINED = r"(?:,|/|\||&|;|\b(?:or|and|und|oder|et|ou|y|o|e|или|и)\b|和|或|与|與|、)"
_LIST_AFTER = re.compile(
    rf"[)\]}}'\"”]*\s*(?:{_JOINED}\s*){{1,2}}(?:(?:option|choice|answer)\s+)?[(\[]?"
    rf"(?:[B-HJ-Z]{_ENDS}|[AI]{_ENDS}(?!\s+[a-z])|[a-z][)\]])|[)\]]?\s+[A-HJ-Z]{_ENDS}{_CLAUSE_END}"
)
_LIST_BEFORE = re.compile(
    rf"{_EDGE}[(\[]?[A-Z][)\]]?\s*(?:{_JOINED}\s*){{1,2}}(?:(?:option|choice|answer)\s+)?[(\[]?\s*$"
)
_MOST_CHARACTERS = 10_000  # of the end, where an answer stands
_ANOTHER = "?"  # beside a letter: a list declares several, so none
_ASKS = re.compile(r"\W*(?:is|are|was|could|can|would|should|might|may|does|do|which|what|why|how)\b", re.I)
_SENTENCE = re.compile(r"[.!?\n。！？]")


def parse_letter(text: str) -> str | None:
    """The option letter in upper case, or None when the text does not clearly name one."""
    text = _THOUGHTS.sub(" ", unicodedata.normalize("NFKC", text[-_MOST_CHARACTERS:]))
    tagged = {_plain_letter(one or other) for one, other in _TAGGED.findall(text)}
    if tagged:
        return tagged.pop() if len(tagged) == 1 else None
    return _plain_letter(text)


def _plain_letter(text: str) -> str | None:
    """Of a text without tags."""
    text = _MARKUP.sub("", _LATEX.sub(r"\1", text)).strip()
    alone = _ALONE.fullmatch(text)
    if alone:
        return _only(alone[1])
    for said in (_matches(text, _MARKED), _declared(text), _named(text)):
        letters = {letter.upper() for letter in said}
        if letters:
            return letters.pop() if len(letters) == 1 else None
    return None


def _only(letter: str) -> str | None:
    return letter.upper() if letter.isascii() else None


def _declared(text: str) -> Iterator[str]:
    yield from _matches(text, _DECLARED)
    for match in _RIGHT.finditer(text):
        if _MAY_STAND_BEFORE_RIGHT.search(text[: match.start()]) and _stands(text, match):
            yield match["upper"]


def _named(text: str) -> Iterator[str]:
    """Named without a word that declares it; two options named, or a list of them, are not one answer."""
    yield from _matches(text, (_OPTION,))
    first = _FIRST.match(text)
    if first:
        letter = _letter_of(first)
        if not _is_denied_after(text[first.end() :]) and not _LIST_AFTER.match(text, _end_of(first)):
            yield letter
            yield from _MARKER.findall(text)
    for line in text.split("\n"):
        alone = _ALONE.fullmatch(line)
        if alone:
            yield alone[1]


def _matches(text: str, patterns: Sequence[re.Pattern[str]]) -> Iterator[str]:
    for pattern in patterns:
        for match in pattern.finditer(text):
            if _stands(text, match):
                yield _letter_of(match)
            elif _LIST_AFTER.match(text, _end_of(match)):
                yield from (_letter_of(match), _ANOTHER)


def _letter_of(match: re.Match[str]) -> str:
    return next(held for held in match.groupdict().values() if held)


def _end_of(match: re.Match[str]) -> int:
    """Where the letter itself ends."""
    return next(match.end(name) for name, held in match.groupdict().items() if held)


def _stands(text: str, match: re.Match[str]) -> bool:
    """Whether what was found is said, and not denied, asked or one of a list."""
    before = _BREAK.split(text[: match.start()])[-1]
    if _DENIED_BEFORE.search(_NO_DOUBT.sub(" ", before)):
        return False
    end = _end_of(match)
    if _is_denied_after(text[end:]):
        return False
    if _LIST_AFTER.match(text, end):
        return False
    begin = min(position for position in (match.start(name) for name in match.groupdict()) if position >= 0)
    if _LIST_BEFORE.search(text[:begin]):
        return False
    start = max((found.end() for found in _SENTENCE.finditer(text, 0, match.start())), default=0)
    stop = _SENTENCE.search(text, end)
    return not (stop and stop[0] == "?" and _ASKS.match(text, start))


def _is_denied_after(tail: str) -> bool:
    return _DENIED_AFTER.match(tail.lstrip(")]}'\"”")) is not None
