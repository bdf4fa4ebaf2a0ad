"""How v2 shows runs and what is in them (contract v2 2.1)."""

from runs import wire
from runs.creation import retries
from runs.models import Artifact, Run, RunStatus, StepKind
from runs.queries import lookup, turns
from runs.sharing import links
from teammates.api.schemas import ApiRequest, address_of, iso, money
from teammates.types import JSON
from threads.models import File as StoredFile

MOST_MESSAGES = 100_000  # of a run: so each has an id of its own


def activity_out(run: Run) -> JSON:
    return {
        "id": run.pk,
        "status": wire.V2_STATUS[RunStatus(run.status)],
        "created_at": iso(run.created_at),
        "task_id": run.task_id,
        "last_activity_at": iso(run.finished_at or run.updated_at),
        "error_code": run.error_class.rpartition(".")[2] or None,
        "next_retry_at": iso(run.next_retry_at),
        "auto_retry_count": run.lost_attempts,
        "auto_recovery_attempt_count": None,
        "cancelled_at": iso(run.cancel_requested_at),
        "needs_reply": run.needs_somebody,
    }


def share_out(request: ApiRequest, row: Run | Artifact) -> JSON:
    path = links.path_of(row)
    return {"share_token": links.token_of(row), "share_url": f"{address_of(request)}{path}"}


def file_out(file: StoredFile) -> JSON:
    return {"name": file.name, "size": file.size, "label": None}


def message_out(run: Run, message: turns.RunMessage) -> JSON:
    """A RunMessage (contract v2 2.1); its id is unique within the account."""
    step = message.step
    asks_model = step is not None and step.kind == StepKind.MODEL
    took = None
    if step is not None and step.finished_at is not None:
        took = int((step.finished_at - step.started_at).total_seconds() * 1000)
    return {
        "id": run.pk * MOST_MESSAGES + message.sequence,
        "run_id": run.pk,
        "sequence": message.sequence,
        "role": message.role,
        "content": message.text,
        "content_blocks": message.blocks,
        "event_metadata": {} if message.trace is None else {"event_trace": message.trace},
        "created_at": iso(message.created_at),
        "input_tokens": step.input_tokens if step and asks_model else None,
        "output_tokens": step.output_tokens if step and asks_model else None,
        "cache_creation_tokens": step.cache_write_tokens if step and asks_model else None,
        "cache_read_tokens": step.cache_read_tokens if step and asks_model else None,
        "claude_cost_usd": money(step.cost) if step and step.cost is not None else None,
        "sandbox_cost_usd": None,
        "execution_time_ms": took,
        "error_message": step.error or None if step else None,
    }


TRIGGER_SOURCES = {"app": "manual", "cli": "manual"}
# Those of ours that the wire has no word for.
CHANNELS = {"schedule": None}


def whole_run_out(run: Run) -> JSON:
    """A run by itself: with what is looked up for one alone."""
    written = [file_out(file) for file in lookup.files_of(run)] if run.is_finished else None
    repeats = retries.repeats_actions(run) if run.is_finished else None
    return run_out(run) | {"files": written, "repeats_actions": repeats}


def run_out(run: Run) -> JSON:
    """A run with every key of contract v2 2.1; null where there is nothing to say."""
    over = run.is_finished
    failed = run.status == RunStatus.FAILED
    answer = run.answer.content if run.answer else None
    shown: JSON = {
        "id": run.pk,
        "teammate_id": run.teammate_id,
        "task_id": run.task_id,
        "task_name": run.task.name,
        "user_id": run.end_user.external_id if run.end_user else None,
        "metadata": run.metadata,
        "description": run.title,
        "status": wire.V2_STATUS[RunStatus(run.status)],
        "output": "The run failed." if failed else answer,
        "output_data": run.output_data,
        "error": run.error_message or None,
        "error_code": run.error_class.rpartition(".")[2] or None,
        "failure_kind": _failure_kind(run),
        "stop_reason": run.stop_reason or None,
        "is_expired": run.erased_at is not None,
        "permission_mode": run.permission_mode,
        "human_in_the_loop": run.human_in_the_loop,
        "run_mode": run.permission_mode,
        "sandbox_state": None,
        "trigger_source": TRIGGER_SOURCES.get(run.channel, run.channel),
        "channel": CHANNELS.get(run.channel, run.channel),
        "billing_surface": "api" if run.is_api else "platform",
        "auth_method": None if run.is_triggered else "api_key" if run.api_key_id else "session",
        "auth_provider": None,
        "started_by": _starter_out(run.started_by),
        "email_address": run.teammate.email_address,
        "model": run.route.alias if run.route else None,
        "effort": run.effort or None,
        "tools": run.tools,
        "memory": run.memory,
        "history": run.history,
        "task_setup_tools": run.task_setup_tools,
        "feedback": run.feedback,
        "output_schema": run.output_schema,
        "max_turns": run.max_turns,
        "skill": run.skill or None,
        "email_notifications": run.email_notifications,
        "created_at": iso(run.created_at),
        "updated_at": iso(run.updated_at),
        "started_at": iso(run.started_at),
        "turn_started_at": iso(run.started_at),
        "last_activity_at": iso(run.finished_at or run.updated_at),
        "last_viewed_at": iso(run.last_viewed_at),
        "notified_at": None,
        "notified_channel": None,
        "retryable": run.is_retryable,
        "can_continue": failed or run.status == RunStatus.CANCELLED,
        "retry_of_run_id": run.retry_of_id,
        "retry_count": int(run.retried_by_id is not None),
        "auto_retry_count": run.lost_attempts,
        "auto_recovery_attempt_count": None,
        "next_retry_at": iso(run.next_retry_at),
        "retried_by_run_id": run.retried_by_id,
        "retried_at": iso(run.retried_at),
        "retry_blocked_reason": None,
        "retry_blocked_message": None,
        "repeats_actions": None,
        "recovery_repeats_actions": None,
        "archived": run.archived_at is not None,
        "share_token": links.token_of(run),
        "retention_mode": run.organization.retention_mode,
        "closing_preview": answer[:200] if answer and over else None,
        "latest_message_preview": answer[:200] if answer else None,
        "files": None,
        "needs_reply": run.needs_somebody,
        "needs_me": run.needs_somebody,
        "needs_me_run": run.needs_somebody,
        "needs_me_message_ids": [],
        "delivery": None,
        "queued_message_id": None,
        "pending_queued_message_ids": [],
        "cancelled_queued_message_ids": [],
        "usage": _usage_out(run),
    }
    return shown


def _starter_out(starter: Run | None) -> JSON | None:
    if starter is None:
        return None
    return {
        "run_id": starter.pk,
        "teammate_id": starter.teammate_id,
        "teammate_name": starter.teammate.name,
        "teammate_template_slug": starter.teammate.template_slug or None,
    }


def _failure_kind(run: Run) -> str | None:
    if run.status != RunStatus.FAILED:
        return None
    limits = ("rate_limited", "quota_exceeded", "max_turns")
    return "limit" if run.error_class.endswith(limits) else "error"


def _usage_out(run: Run) -> JSON | None:
    if run.input_tokens is None:
        return None
    return {
        "input_tokens": run.input_tokens,
        "output_tokens": run.output_tokens,
        "cache_read_tokens": run.cache_read_tokens,
        "cache_creation_tokens": run.cache_write_tokens,
        "total_tokens": run.total_tokens,
        "cost_usd": None if run.cost is None else money(run.cost),
    }
