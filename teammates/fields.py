"""Model fields and keys that every app shares."""

import hashlib
import uuid
from functools import cache
from typing import Any

import uuid_utils.compat
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models

from teammates.errors import Unavailable


def new_uid() -> uuid.UUID:
    """A UUIDv7: unique everywhere and roughly in order of creation."""
    return uuid_utils.compat.uuid7()


class Identified(models.Model):
    """A row that a client can name: a `bigint` id on v2 and in URLs, a `uid` on v1."""

    id = models.BigAutoField(primary_key=True)
    uid = models.UUIDField(default=new_uid, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


@cache
def _fernet() -> MultiFernet:
    import base64

    digests = [
        hashlib.sha256(key.strip().encode()).digest() for key in settings.ENCRYPTION_KEY.split(",")
    ]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])


class RealField(models.FloatField):  # type: ignore[type-arg]
    """A number of seven digits in four bytes: of those there are many."""

    def db_type(self, connection: Any) -> str:
        return "real"


class EncryptedField(models.TextField):  # type: ignore[type-arg]
    """Text that is encrypted in the database. The first of several keys encrypts."""

    def get_prep_value(self, value: str | None) -> str | None:
        return _fernet().encrypt(value.encode()).decode() if value else value

    def from_db_value(self, value: str | None, *_: Any) -> str | None:
        if not value:
            return value
        try:
            return _fernet().decrypt(value.encode()).decode()
        except InvalidToken:
            # Never as an empty one: the next save would erase what another key still reads.
            raise Unavailable(
                "A stored secret cannot be read: MUSTER_ENCRYPTION_KEY, or encryption.key in the "
                "data folder, is not the key that it was stored with."
            ) from None


def hash_secret(secret: str) -> str:
    """How a random secret is stored; 64 hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def bounded_key(text: str) -> str:
    """How a long id that others made is kept: as it is if it fits in 255 characters, else its
    hash."""
    return text if len(text) <= 255 else hash_secret(text)


def iff(one: models.Q, other: models.Q) -> models.Q:
    """For constraints: both hold, or neither."""
    return (one & other) | (~one & ~other)
