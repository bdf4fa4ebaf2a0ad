"""The threads that requests are answered on."""

import threading
import time

import httpx2
import psycopg

from tests.conftest import Server


def test_pages_that_wait_keep_no_program_waiting(server: Server) -> None:
    def open_link() -> None:
        httpx2.get(f"{server.url}/decide/none/", timeout=60)

    pages = [threading.Thread(target=open_link) for _ in range(12)]
    with psycopg.connect(server.database_url) as held, server.client() as client:
        held.execute("LOCK TABLE runs_notice IN ACCESS EXCLUSIVE MODE")
        for page in pages:
            page.start()
        waiting = """SELECT count(*) >= 4 FROM pg_locks
            WHERE NOT granted AND relation = 'runs_notice'::regclass"""
        while held.execute(waiting).fetchone() != (True,):
            time.sleep(0.05)
        time.sleep(0.5)  # whoever could still take a thread has it now
        assert client.get("/v1/threads", timeout=20).status_code == 200
        assert client.get("/healthz", timeout=20).status_code == 200
        assert any(page.is_alive() for page in pages)
    for page in pages:
        page.join(timeout=60)
