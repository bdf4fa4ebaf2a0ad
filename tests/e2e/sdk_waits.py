"""A program that waits for a run with the m8tes SDK and its own callbacks, in a process of its own.

Arguments: key, base URL, run id. Its callbacks wait until somebody has decided elsewhere, as a
program does that only watches; it prints what it saw and the run's end.
"""

import sys
import time

from m8tes import ConflictError, M8tes

key, base_url, run_id = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = M8tes(api_key=key, base_url=base_url)
seen: set[str] = set()


def once_decided(request: object) -> str:
    while True:
        (now,) = [r for r in client.runs.permissions(run_id) if r.request_id == request.request_id]  # type: ignore[attr-defined]
        if now.status != "pending":
            seen.add(request.tool_name)  # type: ignore[attr-defined]
            return "allow"
        time.sleep(0.1)


def on_question(request: object) -> dict[str, str]:
    once_decided(request)
    return {"Plan Approval": "Approve", request.tool_input["questions"][0]["question"]: "Late"}  # type: ignore[attr-defined]


while True:
    try:
        run = client.runs.wait(
            run_id, on_approval=once_decided, on_question=on_question, interval=0.1, timeout=240
        )
        break
    except ConflictError:  # somebody was faster: that is what this program expects
        continue
print(run.status, *sorted(seen), flush=True)
