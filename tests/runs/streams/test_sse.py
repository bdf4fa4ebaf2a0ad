"""The event streams, as Channels consumers: no thread and no database connection while they
idle.
"""

import asyncio
import time
from typing import Any

from tests.api import follow, frames, start_run, text_of
from tests.conftest import MakeServer, Server, wait_for
from tests.runs.streams.readers import open_stream, read_together


def test_a_stream_ends_behind_the_terminal_event(server: Server) -> None:
    with server.client() as client:
        events = follow(client, start_run(client, "think file")["run_id"])
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "run.started"
    assert events[-1]["type"] == "run.completed"
    assert len({e["data"]["trace_id"] for e in events}) == 1


def test_the_trace_id_is_the_runs_own_from_its_creation(server: Server) -> None:
    with server.client() as client:
        run = start_run(client, "plain words")
        events = follow(client, run["run_id"])
        detail = client.get(f"/v1/runs/{run['run_id']}").json()
    assert {run["trace_id"]} == {detail["trace_id"]} | {e["data"]["trace_id"] for e in events}


def test_a_reader_that_resumes_at_every_number_sees_the_same_bytes(server: Server) -> None:
    with server.client() as client:
        run_id = start_run(client, "think todo file slow 30 15ms")["run_id"]
        url = f"/v1/runs/{run_id}/events"
        live = b""
        with client.stream("GET", url) as response:
            live = b"".join(response.iter_raw()).replace(b": ping\n\n", b"")
        blocks = [block + b"\n\n" for block in live.split(b"\n\n") if block]
        for seq in range(len(blocks) + 1):
            by_query = client.get(url, params={"after_seq": seq}).content
            by_header = client.get(url, headers={"last-event-id": str(seq)}).content
            expected = b": ping\n\n" + b"".join(blocks[seq:])
            assert by_query == by_header == expected, seq


def test_a_reader_that_is_cut_off_in_mid_run_resumes_without_a_gap(server: Server) -> None:
    with server.client() as client:
        run_id = start_run(client, "slow 40 20ms")["run_id"]
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["type"] != "run.completed":
            after = seen[-1]["seq"] if seen else 0
            with client.stream(
                "GET", f"/v1/runs/{run_id}/events", params={"after_seq": after}
            ) as response:
                for count, event in enumerate(frames(response.iter_lines())):
                    seen.append(event)
                    if count == 4:
                        break  # the connection is dropped here
        assert [e["seq"] for e in seen] == list(range(1, len(seen) + 1))
        assert text_of(seen) == "".join(f"word{n} " for n in range(1, 41))


def test_a_cursor_beyond_the_end_waits_or_ends(server: Server) -> None:
    with server.client() as client:
        run_id = start_run(client, "slow 10 50ms")["run_id"]
        assert follow(client, run_id, after_seq=100_000, follow="false") == []
        everything = follow(client, run_id)
        assert follow(client, run_id, after_seq=100_000) == []
        assert follow(client, run_id, after_seq=len(everything)) == []
        assert follow(client, run_id, follow="0") == everything
        refused = client.get(f"/v1/runs/{run_id}/events", params={"after_seq": -1})
        assert (refused.status_code, refused.json()["code"]) == (422, "validation.error")


def test_fifty_readers_cost_one_query_per_wake_up(make_server: MakeServer) -> None:
    """Counted by PostgreSQL itself: executions of the hub's statement."""
    import psycopg

    alone = make_server()
    with psycopg.connect(alone.database_url, autocommit=True) as database:

        def reads() -> int:
            row = database.execute(
                "SELECT coalesce(sum(seq_scan + idx_scan), 0) FROM pg_stat_user_tables "
                "WHERE relname = 'runs_event'"
            ).fetchone()
            assert row
            return int(row[0])

        def cost(readers: int) -> int:
            time.sleep(1.5)  # PostgreSQL publishes its counters at most once a second
            before = reads()
            texts = asyncio.run(read_together(alone, readers, "slow 40 60ms"))
            assert len(set(texts)) == 1
            time.sleep(1.5)
            return reads() - before

        one, fifty = cost(1), cost(50)
    # Each reader replays once and asks once for the end; the wake-ups are shared.
    assert fifty - one < 50 * 4
    assert fifty < 40 * 50 / 4


def test_more_open_streams_than_connections_and_a_page_still_answers(
    make_server: MakeServer,
) -> None:
    """Trap 3.2."""
    small = make_server(MUSTER_DATABASE_THREADS="2")  # 10 pooled connections
    with small.client() as client:
        run_id = start_run(client, "slow 400 50ms")["run_id"]
        streams = [open_stream(small, run_id) for _ in range(40)]
        try:
            for stream in streams:
                assert b"200 OK" in stream.recv(4096)
            assert client.get("/v1/runs").status_code == 200
            assert client.get("/readyz").status_code == 200
        finally:
            for stream in streams:
                stream.close()
        assert client.post(f"/v1/runs/{run_id}:cancel").json() == {"ok": True}
        assert follow(client, run_id)[-1]["type"] == "run.cancelled"


def test_a_cancel_stops_a_streaming_model_call_and_books_what_was_used(server: Server) -> None:
    with server.client() as client:
        run_id = start_run(client, "slow 2000 20ms")["run_id"]
        wait_for(lambda: len(follow(client, run_id, follow="false")) > 8)
        assert client.post(f"/v1/runs/{run_id}:cancel").json() == {"ok": True}
        events = follow(client, run_id)
        assert client.post(f"/v1/runs/{run_id}:cancel").json() == {"ok": True}
    assert [e["type"] for e in events][-2:] == ["step.completed", "run.cancelled"]
    assert events[-1]["data"]["usage"]["output_tokens"] > 0
    requested = next(e for e in events if e["type"] == "run.cancel_requested")
    behind = [e for e in events if e["seq"] > requested["seq"] and e["type"] == "message.delta"]
    assert len(behind) <= 50  # at 50 deltas a second: less than a second


def test_a_client_that_leaves_does_not_stop_the_run(server: Server) -> None:
    with server.client() as client:
        run_id = start_run(client, "slow 20 20ms")["run_id"]
        with client.stream("GET", f"/v1/runs/{run_id}/events") as response:
            next(frames(response.iter_lines()))
        wait_for(lambda: client.get(f"/v1/runs/{run_id}").json()["status"] == "completed")
