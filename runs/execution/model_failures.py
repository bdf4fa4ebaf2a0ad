"""A model that failed: tried again, another one instead, or the end of the run."""

from typing import NoReturn

from django.conf import settings

from config.database import in_db
from runs.execution import compaction, step_completion, step_journal
from runs.execution.attempt import Attempt, LoadedRun, Stopped, StreamedTurn
from runs.execution.step_completion import CompleteModelStep
from runs.lifecycle import endings, leases
from runs.lifecycle.endings import Outcome
from runs.models import RunStatus, Step, StepStatus
from teammates.llm import catalog
from teammates.models import Model
from teammates.providers.base import ProviderError, TokenUsage

MAX_RETRIES = 3
EMPTY_ANSWER = "provider.empty_answer"
SMALLEST_LIMIT, SMALLEST_WINDOW = 16, 1000  # tokens; less is no limit of a model
SHRINK = 0.6  # of what was sent, where nobody says how much there is room for
LONGEST_DELAY = 60.0  # seconds before a retry
# Where nobody watches, a run is patient: more retries behind the quick ones, further and further.
PATIENT_RETRIES = 4
LONGEST_PATIENCE = 3600.0
# What another model may well be able to answer.
FALL_BACK_ON = (
    "provider.overloaded",
    "provider.rate_limited",
    "provider.unreachable",
    "provider.silent",
    "provider.too_slow",
    "provider.failed",
    "provider.quota_exceeded",
    "provider.unauthorized",
    "provider.model_not_found",
    "provider.malformed",
    "incomplete_stream",
    "config.missing",
    EMPTY_ANSWER,
)


def trailing_errors(done: list[Step], route: Model) -> int:
    """How often this model failed at the step that is next."""
    count = 0
    for step in reversed(done):
        if step.status == StepStatus.DONE:
            break
        count += bool(step.error) and step.model_name == route.name
    return count


async def recover(
    attempt: Attempt, loaded: LoadedRun, streamed: StreamedTurn, error: ProviderError
) -> None:
    """After an error of the model: queue the run again, go on with its fallback, or let it fail
    with what was used booked. Raises `Stopped` unless the run goes on at once."""
    used = streamed.used
    if loaded.retries < MAX_RETRIES and await _adjust(attempt, loaded, error, used):
        return
    if await _is_worth_a_retry(streamed.step, error, loaded.retries):
        delay = error.retry_after or settings.RETRY_SECONDS * 2**loaded.retries
        await _retry_later(attempt, loaded, error, min(delay, LONGEST_DELAY), used)
    fallback = await in_db(catalog.fallback_of, loaded.route)
    attempt.window = None
    if fallback is not None and error.error_class in FALL_BACK_ON:
        await attempt.events.commit(
            step_journal.switch_model,
            to=fallback,
            used=used,
            why={
                "from_model": loaded.route.alias,
                "error_class": error.error_class,
                "message": str(error),
            },
        )
        return
    patience = loaded.retries - MAX_RETRIES
    if error.is_transient and loaded.run.is_triggered and patience < PATIENT_RETRIES:
        delay = max(error.retry_after or 0, settings.PATIENT_RETRY_SECONDS * 5**patience)
        await _retry_later(attempt, loaded, error, min(delay, LONGEST_PATIENCE), used)
    outcome = Outcome(RunStatus.FAILED, error_class=error.error_class, error_message=str(error))
    if streamed.first_token_ms is None and used is None:
        await attempt.events.commit(endings.finish_run, outcome)
    else:
        await attempt.events.commit(
            step_completion.complete_alone, stopped(loaded, streamed, outcome)
        )
    raise Stopped


async def _is_worth_a_retry(step: Step, error: ProviderError, retries: int) -> bool:
    if error.error_class == EMPTY_ANSWER:
        return not await in_db(_happened_just_before, step, str(error))
    return error.is_transient and retries < MAX_RETRIES


def _happened_just_before(step: Step, error: str) -> bool:
    before = Step.objects.filter(run=step.run_id, number=step.number - 1)
    return before.filter(error=error).exists()


async def _adjust(
    attempt: Attempt, loaded: LoadedRun, error: ProviderError, used: TokenUsage | None
) -> bool:
    """Ask again at once within the limit that the provider named, which is remembered; False where
    that is no way out."""
    route, limit = loaded.route, error.limit
    if error.error_class == "provider.context_too_long":
        learned = _learned_of_window(attempt, loaded, limit)
    elif error.error_class == "provider.output_limit" and limit is not None:
        if not SMALLEST_LIMIT <= limit < route.max_output_tokens:
            return False
        learned = {"max_output_tokens": limit}
    else:
        return False
    await attempt.events.commit(
        step_journal.ask_again,
        route=route,
        learned=learned,
        used=used,
        why={"error_class": error.error_class, "message": str(error)},
    )
    return True


def _learned_of_window(attempt: Attempt, loaded: LoadedRun, window: int | None) -> dict[str, int]:
    """What a model is that found a conversation too long; and what is to be done about that."""
    route = loaded.route
    learned = {}
    if window is not None and SMALLEST_WINDOW <= window < route.context_window:
        learned["context_window"] = window
    room = (window or route.context_window) // 4
    size = compaction.size_of(loaded.instructions, loaded.conversation)
    if window is not None and route.max_output_tokens > room and size < window // 2:
        # Not the conversation: the answer that was asked for leaves no room for it.
        learned["max_output_tokens"] = room
        return learned
    attempt.window = window or int((attempt.window or size) * SHRINK)
    return learned


def stopped(loaded: LoadedRun, streamed: StreamedTurn, outcome: Outcome) -> CompleteModelStep:
    """A step that ends with its run in the middle of an answer; what was used is booked."""
    return CompleteModelStep(
        loaded.run,
        streamed.step,
        loaded.route,
        streamed.result(),
        status=StepStatus.STOPPED,
        outcome=outcome,
    )


async def _retry_later(
    attempt: Attempt,
    loaded: LoadedRun,
    error: ProviderError,
    delay: float,
    used: TokenUsage | None,
) -> NoReturn:
    """`delay` in seconds. Raises `Stopped`."""
    most = MAX_RETRIES + (PATIENT_RETRIES if loaded.run.is_triggered else 0)
    await attempt.events.commit(
        leases.retry_later,
        delay=delay,
        used=used,
        why={
            "attempt": loaded.retries + 1,
            "max_attempts": most,
            "error_class": error.error_class,
            "message": str(error),
        },
    )
    raise Stopped
