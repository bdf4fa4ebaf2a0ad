"""What the tests of streams share."""

import asyncio
import json
import socket

import httpx2

from tests.api import start_run, text_of
from tests.conftest import Server


async def read_together(server: Server, readers: int, message: str) -> list[str]:
    with server.client() as client:
        run = start_run(client, message)
    headers = {"authorization": f"Bearer {server.key}"}

    async def one(http: httpx2.AsyncClient) -> str:
        async with http.stream("GET", f"/v1/runs/{run['run_id']}/events") as response:
            return text_of(
                [
                    json.loads(line[6:])
                    async for line in response.aiter_lines()
                    if line.startswith("data: ")
                ]
            )

    limits = httpx2.Limits(max_connections=readers)
    async with httpx2.AsyncClient(
        base_url=server.url, headers=headers, limits=limits, timeout=30, trust_env=False
    ) as http:
        return await asyncio.gather(*(one(http) for _ in range(readers)))


def open_stream(server: Server, run_id: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(
        f"GET /v1/runs/{run_id}/events HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {server.key}\r\n\r\n".encode()
    )
    return connection
