"""The text of an API key: `sk-stoker-<id>-<secret><checksum>`.

The checksum is made as GitHub makes that of its tokens: CRC32 in six base62 digits
(https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/). With it
a mistyped key is refused without a look into Redis, and a secret scanner can tell a key from other text.
"""

import re
import secrets
import string
import zlib

from worker.jobs.errors import MistypedKey, Unauthorized

__all__ = ["make_secret", "parse", "text_of"]

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
#: Keys that were made before there were checksums have none.
_TEXT = re.compile(r"sk-stoker-([0-9a-f]{12})-([A-Za-z0-9_-]{43})([0-9A-Za-z]{6})?")


def make_secret() -> str:
    """Return a new secret: 32 random bytes in 43 characters."""
    return secrets.token_urlsafe(32)


def text_of(key_id: str, secret: str) -> str:
    """Return the text of the key with this id and secret."""
    return f"sk-stoker-{key_id}-{secret}{_checksum(key_id, secret)}"


def parse(text: str) -> tuple[str, str]:
    """Return the id and the secret in the text of a key.

    Raises `MistypedKey` if the checksum is wrong, and `Unauthorized` if the text is not that of a key.
    """
    parts = _TEXT.fullmatch(text)
    if parts is None:
        raise Unauthorized
    key_id, secret, checksum = parts.groups()
    if checksum not in (None, _checksum(key_id, secret)):
        raise MistypedKey
    return key_id, secret


def _checksum(key_id: str, secret: str) -> str:
    """Return the CRC32 of the text before the checksum, in six base62 digits, the highest first."""
    number, digits = zlib.crc32(f"sk-stoker-{key_id}-{secret}".encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits
