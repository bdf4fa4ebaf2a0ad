"""An organization that has worked for a month, for screenshots and for looking at pages.

What happened today was done by the real server; the month before is written into its tables.
"""

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import psycopg

TEAMMATES = [
    (
        "Ops",
        "Keeps the back office moving",
        "Answer mails about orders and invoices. Look into the "
        "open orders first. Ask before you send something.",
        "approval",
    ),
    (
        "Research",
        "Reads a lot, sums it up",
        "Find sources, compare them, and write one page with what matters. Name every source.",
        "autonomous",
    ),
    ("Support", "Answers customers", "Be friendly and brief. Never promise a refund.", "approval"),
    ("Planner", "Turns goals into plans", "Propose a plan before you act.", "plan"),
]
ASKED = [
    ("Ops", "think and write the file report.csv about the invoices of last week"),
    ("Research", "Compare three suppliers of packaging and write the file suppliers.md"),
    ("Research", "todo list for the fair in June, then think"),
    ("Support", "fail when the shop system is asked for order 4411"),
    ("Ops", "approve the e-mail to kim@acme.com about invoice 114"),
    ("Planner", "plan the launch of the spring collection"),
    ("Support", "ask what to answer to the customer of order 4409"),
    ("Research", "What changed in the packaging law this year?"),
    ("Support", "table of the questions of this week"),
    ("Ops", "slow 400 200ms reconciling the bank statement"),
]
MONTH = """
INSERT INTO runs_usageday (organization_id, day, local_day, teammate_id, created_by_id, channel,
    model_name, runs, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost,
    unpriced, last_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, now())
ON CONFLICT DO NOTHING
"""


def fill(url: str, key: str, database_url: str) -> None:
    """Make teammates and runs, wait until each has gone as far as it goes, write a month."""
    with httpx2.Client(
        base_url=f"{url}/api/v2",
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
        trust_env=False,
    ) as client:
        ids = {name: _teammate(client, *rest, name=name) for name, *rest in TEAMMATES}
        _fill_tasks(client, ids)
        runs = [_run(client, ids[name], message) for name, message in ASKED]
        for run in runs[:-1]:
            _settle(client, run)
    with psycopg.connect(database_url) as connection:
        _write_month(connection, list(ids.values()))


TASKS = [
    ("Ops", "Reconcile the bank statement", {"schedule": "0 7 * * 1-5"}),
    ("Research", "What is new in packaging", {"schedule": "0 9 * * 1"}),
    ("Research", "Watch the prices of suppliers", {"schedule": "*/20 * * * *"}),
    ("Support", "Sort the questions of the day", {"schedule": "0 7 * * *"}),
    ("Support", "Answer a new order", {"webhook": True}),
]


def _fill_tasks(client: httpx2.Client, ids: dict[str, int]) -> None:
    """Tasks with schedules, calls that were taken and refused, an inbox, a webhook."""
    for name, words, fields in TASKS:
        task = (
            client.post(
                "/tasks",
                json={
                    "teammate_id": ids[name],
                    "name": words,
                    "instructions": f"{words}.",
                    "schedule_timezone": "Europe/Berlin",
                    **fields,
                },
            )
            .raise_for_status()
            .json()
        )
        if hook := task["webhook_url"]:
            for event in ("evt_1", "evt_1", "evt_2"):
                httpx2.post(
                    hook,
                    json={"order": 4411, "total": "31.90"},
                    trust_env=False,
                    headers={"X-M8tes-Event-Id": event},
                ).raise_for_status()
            httpx2.post(f"{hook}x", json={}, trust_env=False)
            client.post(
                f"/tasks/{task['id']}/triggers",
                json={
                    "type": "email",
                    "allowed_senders": ["@acme.com"],
                },
            ).raise_for_status()
    client.post(f"/agents/{ids['Ops']}/email-inbox").raise_for_status()
    client.post(f"/agents/{ids['Ops']}/webhook").raise_for_status()
    client.post(f"/agents/{ids['Ops']}/fetchmail").raise_for_status()
    client.post(
        "/webhooks",
        json={
            "url": "https://hooks.example.com/muster",
            "events": ["run.completed", "run.failed"],
        },
    ).raise_for_status()


def _teammate(client: httpx2.Client, role: str, instructions: str, mode: str, *, name: str) -> int:
    made = client.post(
        "/teammates",
        json={
            "name": name,
            "role": role,
            "instructions": instructions,
            "default_permission_mode": mode,
        },
    )
    made.raise_for_status()
    number = int(made.json()["id"])
    shared = client.patch(f"/teammates/{number}", json={"visibility": "organization"})
    shared.raise_for_status()
    return number


def _run(client: httpx2.Client, teammate_id: int, message: str) -> int:
    made = client.post(
        "/runs",
        json={
            "message": message,
            "teammate_id": teammate_id,
            "stream": False,
            "human_in_the_loop": True,
        },
    )
    made.raise_for_status()
    return int(made.json()["id"])


def _settle(client: httpx2.Client, run_id: int) -> None:
    for _ in range(300):
        state: Any = client.get(f"/runs/{run_id}").json()
        if state["status"] != "running":
            return
        time.sleep(0.05)


def _write_month(connection: psycopg.Connection[Any], teammates: list[int]) -> None:
    rng, today = random.Random(7), datetime.now(UTC).date()
    row = connection.execute(
        "SELECT organization_id, user_id FROM teammates_membership ORDER BY id LIMIT 1"
    ).fetchone()
    assert row is not None
    organization_id, user_id = row
    prices = {"claude-sonnet-5-5": 9.0, "claude-opus-5-5": 15.0, "demo": 0.0}
    for day in range(60):
        for teammate_id in teammates:
            for model, price in prices.items():
                runs = rng.randrange(0, 9) * (2 if day % 7 < 5 else 1)
                if not runs:
                    continue
                tokens_in, tokens_out = runs * rng.randrange(2000, 9000), runs * rng.randrange(900)
                connection.execute(
                    MONTH,
                    [
                        organization_id,
                        today - timedelta(days=day),
                        today - timedelta(days=day),
                        teammate_id,
                        user_id if rng.random() < 0.6 else None,
                        "api" if rng.random() < 0.4 else "app",
                        model,
                        runs,
                        tokens_in,
                        tokens_out,
                        tokens_in // 3,
                        tokens_in // 20,
                        (tokens_in + tokens_out * 5) * price / 3_000_000,
                    ],
                )
