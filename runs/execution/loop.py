"""The loop that runs a teammate, one step at a time.

load → model call, streamed as events → persist the step → tool calls, journaled → repeat. Every
step is a checkpoint: an attempt that ends anywhere is resumed behind the last finished step.
"""

import asyncio
import logging

from django.db import OperationalError

from config.database import in_db
from runs.events.log import StaleLease
from runs.execution import tool_step
from runs.execution.attempt import OUTCOMES, Attempt, Stopped
from runs.execution.loading import gather_context, load_run, refresh
from runs.execution.model_step import model_step
from runs.lifecycle import endings, leases
from runs.lifecycle.endings import Outcome
from runs.models import RunStatus
from teammates.errors import DomainError
from teammates.providers.base import (
    ProviderError,
)

logger = logging.getLogger("muster.execution")


async def execute(attempt: Attempt) -> None:
    """Run until the run ends, waits, is handed back or belongs to somebody else.

    The outcome is decided here and nowhere else. Cancellation by the worker carries its reason in
    `attempt.stopping`.
    """
    try:
        while await _next_step(attempt):
            attempt.events.raise_if_stale()
    except (Stopped, StaleLease):
        pass
    except OperationalError:
        # The database is away, which ends no run: the next attempt goes on from the last step.
        logger.exception("Run %s lost the database", attempt.lease.run_id)
    except asyncio.CancelledError:
        await _stop(attempt)
    except ProviderError as error:
        await _fail(attempt, error.error_class, str(error))
    except DomainError as error:
        await _fail(attempt, error.code, error.message)
    except Exception as error:
        logger.exception("Run %s failed", attempt.lease.run_id)
        await _fail(
            attempt,
            "internal.error",
            f"Something went wrong inside Muster ({type(error).__name__}). "
            "The log of the worker has the details; try the run again.",
        )


async def _stop(attempt: Attempt) -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()  # what follows must not be interrupted by the same request
    try:
        if outcome := OUTCOMES.get(attempt.stopping):
            await attempt.events.commit(endings.finish_run, outcome())
        elif attempt.stopping == "shutdown":
            await attempt.events.commit(leases.release_run)
    except StaleLease:
        pass


async def _fail(attempt: Attempt, error_class: str, message: str) -> None:
    outcome = Outcome(RunStatus.FAILED, error_class=error_class, error_message=message)
    try:
        await attempt.events.commit(endings.finish_run, outcome)
    except StaleLease:
        pass


async def _next_step(attempt: Attempt) -> bool:
    """Do the step that comes next; say whether the run goes on."""
    loaded = attempt.loaded
    if loaded is None:
        loaded = attempt.loaded = await in_db(
            load_run, attempt.lease, has_steps=attempt.has_begun or attempt.lease.attempt > 1
        )
        if loaded.open_step is None and loaded.run.told is None:
            await gather_context(loaded)
    else:
        await in_db(refresh, loaded)
    if loaded.open_step is not None:
        await tool_step.tools_step(attempt, loaded)
        return True
    return await model_step(attempt, loaded)
