"""What an answer of a model has to have: words or calls, and the result that a run owes."""

from config.database import in_db
from runs.execution.attempt import LoadedRun
from runs.execution.model_failures import EMPTY_ANSWER
from runs.execution.results import owes_result, result_in
from teammates.models import Model
from teammates.providers.base import ProviderError, Turn

REFUSALS = ("refusal", "content_filter")  # how an answer ends that its model will not give


def refuse_empty(turn: Turn, route: Model) -> None:
    """Raise `ProviderError` for an answer without a word and without a call."""
    if turn.text.strip() or turn.tool_requests:
        return
    match turn.finish_reason:
        case "content_filter":
            raise ProviderError(
                "provider.filtered",
                f"The filter of {route.provider.name} stopped the answer. Say it differently, or "
                "use another model.",
            )
        case "length":
            raise ProviderError(
                "provider.output_limit",
                f"{route.name} used all of its {route.max_output_tokens} tokens before it wrote an "
                "answer. Raise its output limit in Models & prices, or lower the effort.",
            )
    raise ProviderError(
        EMPTY_ANSWER,
        f"{route.name} gave an empty answer. Try again, or use another model.",
    )


async def refuse_without_result(loaded: LoadedRun, turn: Turn) -> None:
    """Raise `ProviderError` for a closing answer without the result that was asked for: once, and
    then the model is to call for it."""
    run = loaded.run
    if turn.tool_requests or run.is_finishing or loaded.retries or run.output_schema is None:
        return
    if turn.finish_reason in REFUSALS or result_in(turn.text, run.output_schema) is not None:
        return
    if await in_db(owes_result, run):
        raise ProviderError(
            "provider.no_result",
            f"{loaded.route.name} closed without the result that was asked for.",
            is_transient=True,
        )
