"""What is stored encrypted: Fernet (AES-128-CBC with an HMAC), the first key encrypts and all keys open.

A new key goes in front of the others, and once every process has it, ``manage.py rotate_credentials`` writes all anew;
then the old one can go.  Each ciphertext is bound to its place (the row it is of): moved to another, it does not open.
"""

import base64
import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from agentsys.core.errors import SecretUnreadable

_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_FERNET = re.compile(r"[A-Za-z0-9_-]{43}=")


def as_key(text: str) -> str:
    """A key as Fernet takes it, from that or from 64 hexadecimal digits (``openssl rand -hex 32``).

    Raises:
        ValueError: it is neither; the message does not repeat it.
    """
    if _HEX.fullmatch(text):
        return base64.urlsafe_b64encode(bytes.fromhex(text)).decode()
    if _FERNET.fullmatch(text):
        return text
    raise ValueError(
        "each key is 32 random bytes, as 64 hexadecimal digits (openssl rand -hex 32) or as Fernet's base64"
    )


def derived_key(secret: str) -> str:
    """A key for who has given none: HMAC-SHA-256 of our own purpose under ``secret``, which is long and random."""
    return base64.urlsafe_b64encode(hmac.digest(secret.encode(), b"agentsys.vault.1", sha256)).decode()


def encrypt(text: str, *, place: str) -> bytes:
    """``text`` for the column; by the first key."""
    return _fernet(tuple(settings.VAULT_KEYS)).encrypt(f"{place}\n{text}".encode())


def decrypt(token: bytes, *, place: str) -> str:
    """
    Raises:
        SecretUnreadable: no key of ours opens it, or it is of another place.
    """
    try:
        found, _, text = _fernet(tuple(settings.VAULT_KEYS)).decrypt(bytes(token)).decode().partition("\n")
    except InvalidToken:
        raise SecretUnreadable from None
    if found != place:
        raise SecretUnreadable
    return text


def reencrypt(token: bytes) -> bytes:
    """The same, by the first key.

    Raises:
        SecretUnreadable: no key of ours opens it.
    """
    try:
        return _fernet(tuple(settings.VAULT_KEYS)).rotate(bytes(token))
    except InvalidToken:
        raise SecretUnreadable from None


@lru_cache(maxsize=4)
def _fernet(keys: Sequence[str]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
