"""What the tests of execution share."""

import asyncio
from collections.abc import Callable
from typing import Any

from config.wakeups import WakeUps
from runs.creation.options import Options
from runs.execution.worker import Worker
from runs.models import Event, Run
from teammates.access import Access
from teammates.llm import catalog
from tests.factories import make_run
from tests.fake_models import FakeModels


def work_until(
    condition: Callable[[], Any], *, meanwhile: Callable[[], None] | None = None
) -> None:
    """Run a worker in this process until `condition` holds."""
    from config.database import in_db

    async def work() -> None:
        wakeups = WakeUps()
        worker = Worker(wakeups)
        tasks = [asyncio.create_task(wakeups.run()), asyncio.create_task(worker.run())]
        try:
            async with asyncio.timeout(90):
                while not await in_db(condition):
                    for task in tasks:
                        if task.done():
                            task.result()
                    await asyncio.sleep(0.02)
                    if meanwhile:
                        await in_db(meanwhile)
        except TimeoutError:
            for task in asyncio.all_tasks():
                task.print_stack()
            raise
        finally:
            worker.stop()
            await asyncio.wait([tasks[1]], timeout=10)
            tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(work())


def finish(run: Run) -> Run:
    work_until(lambda: Run.objects.get(pk=run.pk).is_finished)
    return Run.objects.select_related("answer").get(pk=run.pk)


def run_on(access: Access, models: FakeModels, kind: str, model: str, **fields: Any) -> Run:
    """A queued run on a model of the loopback server."""
    base = models.url if kind in ("anthropic", "google") else f"{models.url}/v1"
    provider = catalog.create_provider(
        access, name=f"{kind} {model}", kind=kind, api_key="sk-test-0123456789", base_url=base
    )
    catalog.add_model(
        access,
        provider,
        alias=f"{kind}-{model}",
        name=model,
        prices={"uncached_input": "10", "cache_read": "1", "cache_write": "20", "output": "100"},
    )
    return make_run(access, options=Options(model=f"{kind}-{model}"), **fields)


def types(run: Run) -> list[str]:
    return list(Event.objects.filter(run=run).order_by("seq").values_list("type", flat=True))


KINDS = ["openai", "openai_compatible", "ollama", "anthropic"]
