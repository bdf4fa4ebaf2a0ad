import asyncio
import threading
from pathlib import Path

import pytest
from django.db import connection

from config.database import direct_conninfo, in_db
from config.postgres import LONGEST_SOCKET_PATH, Cluster
from tests.api import start_run
from tests.conftest import Server
from tests.runs.streams.readers import open_stream


def test_database_work_of_one_loop_runs_side_by_side() -> None:
    """Trap 3.1: the plain bridge is one thread for the whole process."""
    together = threading.Barrier(3, timeout=10)

    async def meet() -> None:
        await asyncio.gather(*(in_db(together.wait) for _ in range(3)))

    asyncio.run(meet())  # a single thread would never get past the barrier


@pytest.mark.django_db
def test_a_commit_is_on_disk_before_it_is_shown() -> None:
    """Trap 2.7: an event that was shown must not be lost, its number would be given again."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)
        cursor.execute("SHOW fsync")
        assert cursor.fetchone() == ("on",)


@pytest.mark.django_db
def test_the_listening_connection_can_be_made_from_the_settings() -> None:
    import psycopg

    with psycopg.connect(direct_conninfo()) as direct:
        assert direct.info.dbname == connection.settings_dict["NAME"]


def test_a_long_path_gets_a_private_socket_folder_of_its_own() -> None:
    """Trap 4.4."""
    deep = Cluster(Path("/tmp/" + "deep/" * 30 + "data"))
    assert len(str(deep.socket_folder)) <= LONGEST_SOCKET_PATH
    other = Cluster(Path("/tmp/" + "deep/" * 30 + "other"))
    assert deep.socket_folder != other.socket_folder
    assert Cluster(Path("/srv/data")).socket_folder == Path("/srv/data/socket")


def test_open_streams_hold_no_threads(server: Server) -> None:
    """Trap 3.3."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status")

    def threads() -> int:
        return int(status.read_text().split("Threads:")[1].split()[0])

    with server.client() as client:
        run = start_run(client, "slow 200 50ms")["run_id"]
        for _ in range(20):  # every pooled thread exists before we count
            client.get("/v1/runs")
        before = threads()
        streams = [open_stream(server, run) for _ in range(60)]
        for stream in streams:
            assert b"200 OK" in stream.recv(4096)
        assert threads() - before < 20
        for stream in streams:
            stream.close()
        client.post(f"/v1/runs/{run}:cancel")
