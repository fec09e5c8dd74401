"""Takes secrets out of text before it is written: "[redacted]" stands in their place, and each is counted.

Place: `record` passes all through it that a run keeps, but for measured data. Limits: it knows a secret by its key
(HF_TOKEN, apiKey, --password), by its shape (bearer tokens, PEM private keys, tokens of well-known services), by its
place (Secret objects, URLs with a password), or because it saw the same value under such a key before; any other it
cannot tell from a word.

No library does this to text in its place: detect-secrets names lines of source code, scrubadub and presidio look for
names and addresses of people, and those that do redact take `eos_token` or `max_tokens` for secrets.
"""

import os.path
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import yaml

MARK = "[redacted]"
MOST_YAML = 1 << 20
"""Characters of YAML that are read for their structure, at about 5 s a MiB; longer ones as text."""

_LAST = re.compile("apikey|auth|authorization|bearer|cookie|credentials?|jwt|passphrase|passwd|password|pwd|secret")
"""Words that end the name of a secret."""
_BEFORE_KEY = re.compile("access|account|api|auth|encryption|master|private|secret|signing|ssh")
_BEFORE_TOKEN = re.compile(
    "a|any|audio|bonus|bos|cls|draft|each|end|eos|every|final|first|generated|image|input|last|mask|max|min|new|next|no|one|"
    "only|output|pad|per|prev|previous|prompt|reasoning|same|sampled|second|sep|single|special|start|stop|that|the|think|this|"
    "unk|video|whole"
)
"""What stands before "token" where a word of a text is meant; what follows it, as in token_ids, says so as well."""
_ORDINARY = re.compile(
    r"|null|none|nil|true|false|yes|no|required|enabled|disabled|unset|\[\]|\{\}|\*+|<.*>|\$\(?\{?\w+\}?\)?|"
    + re.escape(MARK),
    re.IGNORECASE | re.DOTALL,
)
"""Values that are no secret whatever their key: nothing, a switch, a special token, a reference to a variable."""
_COUNT = re.compile(r"[-+]?\d{1,7}(\.\d+)?([a-zA-Zµ%]{0,3}|e[-+]?\d+)")

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_KEY = r"[\w.\-]{0,64}?(?:token|passw|pwd|passphrase|secret|key|credential|auth|bearer|cookie|jwt)[\w.\-]{0,64}"
_SCHEME = r"(?:(?:bearer|basic|token|negotiate|apikey)[ \t]+)?"
_VALUE = (
    r"(?!\[{1,2}redacted\])(?:[bu]?\"(?P<double>(?:[^\"\\\r\n]|\\.)*)"
    r"|[bu]?'(?P<single>(?:[^'\\\r\n]|\\.)*)"
    r"|\\{1,4}[\"'](?P<escaped>[^\"'\\\r\n]*)"
    r"|\[(?P<listed>[^\]\r\n]{0,1024})\]"
    rf"|(?P<bare>(?:digest|aws4-hmac-sha256)\s[^\r\n]*|<[^<>\r\n]{{0,99}}>|{_SCHEME}[^\s,;&\"'}}\])]+))"
)
_VALUE_NAMES = ("double", "single", "escaped", "listed", "bare")
_PAIR = re.compile(
    rf"(?<![\w.\-])(?P<key>{_KEY})\\{{0,4}}[\"']?[ \t]{{0,8}}(?:=>|:=|=(?!>)|:(?!=))[ \t]{{0,8}}(?:{_VALUE})", re.I
)
_FLAG = re.compile(
    rf"(?<![\w\-])--?(?P<key>{_KEY})(?:\\{{0,4}}[\"']\s{{0,8}},\s{{0,8}}|[ \t]{{1,8}})(?!-)(?:{_VALUE})", re.I
)
_ENTRY = re.compile(
    rf"name\\{{0,4}}[\"']?\s{{0,8}}[:=]\s{{0,8}}\\{{0,4}}[\"']?(?P<key>{_KEY})\\{{0,4}}[\"']?\s{{0,8}},?\s{{0,64}}"
    rf"\\{{0,4}}[\"']?value\\{{0,4}}[\"']?\s{{0,8}}[:=]\s{{0,8}}(?:{_VALUE})",
    re.I,
)
_BEARER = re.compile(r"\bbearer\s{1,8}(?P<value>[A-Za-z0-9\-._~+/]{8,}=*)", re.I)
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9_\-])(?P<value>"
    r"hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w\-]{16,}|nvapi-[\w\-]{20,}"
    r"|sk-(?=[\w\-]*\d)[A-Za-z0-9][\w\-]{19,}|xox[abeoprs]-[\w\-]{10,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w\-]{30,}|npm_[A-Za-z0-9]{30,}"
    r"|eyJ[\w\-]{8,}\.[\w\-]{4,}\.[\w\-]*)"
)
_URL = re.compile(r"://[^\s/:@\"']{0,256}:(?!\[redacted\]@)(?P<value>[^\s/@\"']{1,1024})@")
_PEM = re.compile(r"-----(?P<side>BEGIN|END) [A-Z0-9 ]{0,40}PRIVATE KEY-----")
_GAP = r"(?:\s|\\[nrt])"
_BODY_AFTER = re.compile(rf"{_GAP}*(?:[A-Za-z0-9+/=]{{16,}}{_GAP}*)*(?:[A-Za-z0-9+/=]+\Z)?")
_PAG = r"(?:\s|[nrt]\\)"
_BODY_BEFORE = re.compile(rf"{_PAG}*[A-Za-z0-9+/=]+(?:{_PAG}+[A-Za-z0-9+/=]{{16,}})*(?:{_PAG}+[A-Za-z0-9+/=]+\Z)?")
"""Of reversed text: a search from its beginning would look at each line as often as there are lines before it."""
MOST_LEARNED = 1000
"""Values that are looked for everywhere because they stood under a secret's key: each costs 0.1 us a text."""
_LONGEST_KEY = 16_384
"""Characters of a PEM private key; one of RSA with 4096 bits has 3,300."""


class Redactor:
    """Redacts what is given to it, and counts.

    Args:
        known: values that are secrets wherever they stand; short ones and words are left out.
        learns: whether a value that it finds by its key becomes such a one, as long as they are few.
    """

    def __init__(self, known: Iterable[str] = (), *, learns: bool = False) -> None:
        self.count = 0
        self._learns = learns
        self.known = {value for value in known if _telling(value)}

    def text(self, text: str) -> str:
        """Text of any kind: logs, messages, JSON."""
        text = _without_keys(text, self._replaced)
        for pattern in (_ENTRY, _FLAG, _PAIR):
            text = pattern.sub(self._pair, text)
        for pattern in (_BEARER, _SHAPES, _URL):
            text = pattern.sub(self._shape, text)
        for value in sorted(self.known, key=len, reverse=True):
            self.count += text.count(value)
            text = text.replace(value, MARK)
        return text

    def yaml(self, text: str) -> str:
        """YAML documents, whose structure says more; all else in them stays as it was written, comments too."""
        for start, end, value in sorted(_spans(text), reverse=True):
            self._found(value)
            text = f'{text[:start]}"{MARK}"{"" if text[end - 1 : end] != chr(10) else chr(10)}{text[end:]}'
        return self.text(text)

    def value(self, value: object) -> object:
        """The same of dictionaries, lists and text in them, as JSON has."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        if isinstance(value, dict):
            named = str(value.get("name")) if "value" in value else ""
            return {key: self._field(named if key == "value" else str(key), each) for key, each in value.items()}
        return value

    def fields(self, fields: Mapping[str, str]) -> dict[str, str]:
        """The same of text by name, as of headers and variables."""
        return {name: self._found(text) if _is_secret(name, text) else self.text(text) for name, text in fields.items()}

    def _field(self, key: str, value: object) -> object:
        if isinstance(value, list | tuple):
            return [self._field(key, each) for each in value]
        if isinstance(value, str) and _is_secret(key, value):
            return self._found(value)
        return self.value(value)

    def _pair(self, match: re.Match[str]) -> str:
        name = next(each for each in _VALUE_NAMES if match[each] is not None)
        before = match.string[max(0, match.start() - 24) : match.start()]
        if not _is_secret(match["key"], match[name], before):
            return match[0]
        start = match.start(name) - match.start()
        return match[0][:start] + self._found(match[name]) + match[0][start + len(match[name]) :]

    def _shape(self, match: re.Match[str]) -> str:
        if match.re is _BEARER and len(match["value"]) < 20 and not re.search(r"\d", match["value"]):
            return match[0]
        start = match.start("value") - match.start()
        return match[0][:start] + self._replaced(match["value"]) + match[0][start + len(match["value"]) :]

    def _found(self, value: str) -> str:
        if self._learns and len(self.known) < MOST_LEARNED and _telling(value):
            self.known.add(value)
        return self._replaced(value)

    def _replaced(self, _: str) -> str:
        self.count += 1
        return MARK


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Values of variables that are called as secrets are, but for those that name a file with one."""
    secrets = {text for name, text in environment.items() if is_secret_name(name)}
    return sorted(text for text in secrets if not os.path.exists(text))  # noqa: PTH110 - pathlib raises for long ones


def is_secret_name(name: str) -> bool:
    """Whether what is called so is a secret, as far as a name says: HF_TOKEN, apiKey, db-password."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last.endswith("token"):
        return not _BEFORE_TOKEN.fullmatch(last.removesuffix("token") or before)
    return bool(_LAST.fullmatch(last) or (last == "key" and _BEFORE_KEY.fullmatch(before)))


def _is_secret(key: str, value: str, before: str = "") -> bool:
    """Whether a value is one by its key; `before` is the text before the key, as in "the first token: 7"."""
    value = value.strip().strip("\"'`.")
    if not is_secret_name(key) or _ORDINARY.fullmatch(value) or (key.lower() == "pwd" and value.startswith("/")):
        return False
    if key.lower().endswith("token"):
        words = _WORDS.findall(before)
        said = key.lower() == "token" and before.endswith(" ") and words and _BEFORE_TOKEN.fullmatch(words[-1].lower())
        return not (said or _COUNT.fullmatch(value))
    return True


def _telling(value: str) -> bool:
    """Whether a value is so unlike a word that it can be looked for everywhere."""
    return len(value) >= 8 and any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and MARK not in value


def _without_keys(text: str, replaced: Callable[[str], str]) -> str:
    """Text without PEM private keys, also those of which one end was cut off."""
    kept, place = [], 0
    marks = list(_PEM.finditer(text))
    for number, mark in enumerate(marks):
        if mark.start() < place:
            continue
        start, end = mark.span()
        after = marks[number + 1] if number + 1 < len(marks) else None
        if mark["side"] == "END":  # its beginning was cut off
            near = max(place, start - _LONGEST_KEY)
            body = _BODY_BEFORE.match(text[near:start][::-1])
            start -= body.end() if body else 0
        elif after and after["side"] == "END" and after.start() - end <= _LONGEST_KEY:
            end = after.end()
        else:
            body = _BODY_AFTER.match(text, end)
            end = body.end() if body else end
        kept += [text[place:start], replaced(text[start:end])]
        place = end
    return "".join([*kept, text[place:]]) if kept else text


def _spans(text: str) -> Iterator[tuple[int, int, str]]:
    """Where scalars of YAML documents are secrets: start, end, value. None where it is no YAML that can be read."""
    if len(text) > MOST_YAML:
        return
    try:
        documents = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node is not None]
    except (yaml.YAMLError, RecursionError, ValueError):
        return
    seen: set[int] = set()
    waiting = documents
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias stands for a node as often as it likes
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            found = _after_flags(node)
        elif isinstance(node, yaml.MappingNode):
            waiting += [value for _, value in node.value]
            found = _secret_fields(node)
        else:
            continue
        for each in found:
            if id(each) not in seen and each.end_mark.index > each.start_mark.index:
                seen.add(id(each))
                yield each.start_mark.index, each.end_mark.index, each.value


def _after_flags(node: yaml.SequenceNode) -> Iterator[yaml.ScalarNode]:
    """Items of an argument list that follow a flag which names a secret."""
    for flag, item in zip(node.value, node.value[1:], strict=False):
        if not isinstance(flag, yaml.ScalarNode) or not isinstance(item, yaml.ScalarNode):
            continue
        if flag.value.startswith("-") and item.value[:1] != "-" and _is_secret(flag.value.lstrip("-"), item.value):
            yield item


def _secret_fields(node: yaml.MappingNode) -> Iterator[yaml.ScalarNode]:
    fields = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    scalars = {key: value for key, value in fields.items() if isinstance(value, yaml.ScalarNode)}
    if "kind" in scalars and scalars["kind"].value == "Secret":
        for name in ("data", "stringData"):
            if isinstance(fields.get(name), yaml.MappingNode):
                yield from (value for _, value in fields[name].value if isinstance(value, yaml.ScalarNode))
    for key, value in fields.items():
        items = value.value if isinstance(value, yaml.SequenceNode) else [value]
        name = scalars["name"].value if key == "value" and "name" in scalars else key
        yield from (each for each in items if isinstance(each, yaml.ScalarNode) and _is_secret(str(name), each.value))
