"""Removes secrets from log lines, whoever has written them: passwords, keys, tokens, and queries of URLs."""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from worker.jobs.settings import Settings

__all__ = ["Redactor", "secrets_of"]

_MASK = "***"
#: Names of the parts of a URL's query that are secrets.
_SECRET_NAME = re.compile("(?i)token|key|secret|signature|password|credential")
#: Shorter secrets are left in the text: they would match parts of words.
_MIN_LENGTH = 4
#: Names of headers and options whose values are secrets.
_NAMES = r"(?:(?:proxy-)?authorization|x-api-key|set-cookie|cookie|webhook-signature|password)"
#: Replacements that make secrets of known forms unreadable.
_FORMS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#'\"@]*@", rf"\1{_MASK}@"),
        (r"(https?://[^\s?#'\"]+)\?[^\s'\"<>]+", rf"\1?{_MASK}"),
        (
            r"(?i)([?&][a-z0-9_.-]*(?:token|key|secret|signature|sig|password|credential)=)[^\s&'\"]+",
            rf"\1{_MASK}",
        ),
        (r"(sk-stoker-[0-9a-f]{12}-)[A-Za-z0-9_-]+", rf"\1{_MASK}"),
        (r"\b(whsec_|sk-(?!stoker-))[A-Za-z0-9+/=_-]{8,}", rf"\1{_MASK}"),
        (r"(?i)\b(bearer|basic)( +)[A-Za-z0-9._~+/=-]{8,}", rf"\1\2{_MASK}"),
        (rf"(?i)\b({_NAMES}['\"]?\s*[:=,]\s*b?(['\"]))(?:(?!\2).)*", rf"\1{_MASK}"),
        (rf"(?i)\b({_NAMES}\s*[:=]\s*)(?!b?['\"])[^\n'\"]+", rf"\1{_MASK}"),
        (r"(with args beginning with: |name=value occurrences: ).*", rf"\1{_MASK}"),
    )
)
#: One of these is in each text that a form can match. A search for them is faster than the forms.
_HINT = re.compile(
    r"(?i)://|sk-|whsec_|[?&][^\s=]+=|bearer|basic|authori|api-key|cookie|signature|password|with args"
    "|occurrences: "
)


class Redactor:
    """Replaces the given secrets, and whatever has the form of one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {
            form for text in secrets if len(text) >= _MIN_LENGTH for form in (text, quote(text, safe=""))
        }
        longest_first = sorted(spellings, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if spellings else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        if self._secrets:
            text = self._secrets.sub(_MASK, text)
        if _HINT.search(text):
            for pattern, replacement in _FORMS:
                text = pattern.sub(replacement, text)
        return text


def secrets_of(settings: Settings) -> set[str]:
    """Return the secrets in the settings: those that are secrets as a whole, and the secret parts of URLs."""
    secret = (name for name, field in type(settings).model_fields.items() if not field.repr)
    values = (getattr(settings, name) for name in secret)
    return {part for value in values if value for part in _secret_parts(str(value)) if part}


def _secret_parts(value: str) -> set[str]:
    if "://" not in value:
        return {value}
    parts = urlsplit(value)
    found = {text for name, text in parse_qsl(parts.query) if _SECRET_NAME.search(name)}
    return found | {parts.password or "", unquote(parts.password or "")}
