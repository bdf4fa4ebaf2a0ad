"""The PostgreSQL channels on which processes wake each other."""

import psycopg
import pytest
from django.db import connection, transaction

from runs.events.channels import CANCEL_CHANNEL, WORK_CHANNEL, notify
from tests.database import url_of

pytestmark = pytest.mark.django_db(transaction=True)


def heard(listener: "psycopg.Connection[tuple[object, ...]]") -> list[tuple[str, str]]:
    return [(one.channel, one.payload) for one in listener.notifies(timeout=0.3)]


def test_news_is_told_when_its_transaction_commits_and_never_before() -> None:
    database = connection.settings_dict["NAME"]
    with psycopg.connect(url_of(database), autocommit=True) as listener:
        listener.execute(f"LISTEN {WORK_CHANNEL}")
        listener.execute(f"LISTEN {CANCEL_CHANNEL}")
        with transaction.atomic():
            notify({WORK_CHANNEL: "", CANCEL_CHANNEL: 7})
            assert heard(listener) == []
        assert heard(listener) == [(WORK_CHANNEL, ""), (CANCEL_CHANNEL, "7")]


def test_what_is_rolled_back_is_told_to_nobody() -> None:
    database = connection.settings_dict["NAME"]
    with psycopg.connect(url_of(database), autocommit=True) as listener:
        listener.execute(f"LISTEN {WORK_CHANNEL}")
        with transaction.atomic():
            notify({WORK_CHANNEL: ""})
            transaction.set_rollback(True)
        assert heard(listener) == []
