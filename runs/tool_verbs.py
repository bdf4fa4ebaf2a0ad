"""What the built-in tools that work on the domain do: one function per tool.

Each runs in the transaction that writes its result into the journal of calls: its effect and the
record of it are one, so a crash can neither lose nor repeat it. It acts with the access of whoever
started the run, in exactly the run's scope, and what it makes can do no more than the run itself.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.db.models import F

from runs import reports
from runs.authority import access_of_run
from runs.creation import enqueue, options, requests
from runs.inbox import mailbox
from runs.models import (
    Channel,
    Gate,
    GateStatus,
    HistoryOf,
    Run,
    RunFile,
    Task,
    TaskStatus,
    ToolCall,
)
from runs.notifications import notices
from runs.tasks import lessons, tasks
from teammates import knowledge, limits, roster
from teammates.access import Access
from teammates.catalog import CATALOG
from teammates.errors import Conflict, Forbidden, Invalid, NotFound
from teammates.fencing import as_data
from teammates.models import Author, PermissionMode, PermissionPolicy, Teammate, ToolServer
from teammates.tools import result as result_tool
from threads import conversations, files

Verb = Callable[[Run, Access, ToolCall, dict[str, Any]], Any]
MOST_LISTED = 50
DEEPEST = 5  # runs that start runs that start runs
MOST_STARTED = 50  # runs that come of one, at whatever depth
# From loose to strict: what a run makes is never looser than itself.
STRICTNESS: list[str] = [PermissionMode.AUTONOMOUS, PermissionMode.APPROVAL, PermissionMode.PLAN]


def perform(run: Run, call: ToolCall, name: str, arguments: Any) -> Any:
    """Do what the tool says; call inside the transaction of the call's result. Raises
    `DomainError`."""
    return VERBS[name](run, access_of_run(run), call, arguments)


# --- memory and skills --------------------------------------------------------------------------


def _remember(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    own = arguments.get("scope") == "me"
    memory = knowledge.add_memory(
        access, arguments["content"],
        audience=None if own else arguments.get("audience"),
        teammate=run.teammate if own else None,
        author=Author.AGENT, written_by=run.teammate, source_run_id=run.pk,
    )  # fmt: skip
    return {"memory_id": memory.pk, "content": memory.content}


def _recall(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    query = arguments.get("query", "")
    told = knowledge.memories_for(access, run.teammate, query)
    found = [one.memory for one in told if not query or one.why == knowledge.FITS]
    found = found or [
        memory
        for memory in knowledge.search_memories(access, query)[:20]
        if memory.teammate_id in (None, run.teammate_id)
    ]
    knowledge.mark_used([memory.pk for memory in found])
    return [{"memory_id": memory.pk, "content": memory.content} for memory in found]


def _forget(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    memory = knowledge.get_memory(access, arguments["memory_id"])
    if memory.teammate_id not in (None, run.teammate_id):
        raise NotFound("There is no such memory.")
    knowledge.forget(access, memory.pk)
    return {"forgotten": memory.content}


def _load_skill(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    skills = knowledge.skills_for(access, run.teammate)
    found = skills.filter(slug=arguments["skill"]).first()
    if found is None:
        known = ", ".join(skills.values_list("slug", flat=True)[:20])
        raise NotFound(f"There is no skill {arguments['skill']!r}. There are: {known}.")
    return {"name": found.name, "instructions": found.body}


# --- documents and lessons ----------------------------------------------------------------------


def _write_document(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    document = knowledge.write_document(
        access, name=arguments["name"], content=arguments["content"],
        summary=arguments.get("summary", ""),
        teammate=None if arguments.get("scope") == "company" else run.teammate,
        author=Author.AGENT, written_by=run.teammate, source_run_id=run.pk,
    )  # fmt: skip
    return {"document_id": document.pk, "name": document.name}


def _read_document(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    readable = knowledge.documents_for(access, run.teammate)
    own_first = readable.filter(name=arguments["name"]).order_by(F("teammate").asc(nulls_last=True))
    found = own_first.first()
    if found is None:
        known = ", ".join(readable.values_list("name", flat=True)[:20]) or "none"
        raise NotFound(f"There is no document {arguments['name']!r}. There are: {known}.")
    return {"name": found.name, "content": found.content}


def _learn_lesson(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    lesson = lessons.learn(run, arguments["text"], arguments.get("when_applicable", ""))
    return {"lesson_id": lesson.pk, "affirmed": lesson.reaffirm_count}


def _read_mailbox(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    # Codes lie there: who only talks to the teammate does not get them.
    roster.require_editor(access, run.teammate)
    found = mailbox.mails_of(run.teammate, arguments.get("words", ""))
    if found:
        _hear(run, None)
    return [
        {"from": one.sender, "subject": one.subject, "received_at": one.created_at.isoformat(),
         "text": one.text[:10_000], "attachments": one.attachments}
        for one in found[:20]
    ]  # fmt: skip


# --- telling ------------------------------------------------------------------------------------


def _notify(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    title = arguments.get("title") or f"{run.teammate.name} has news"
    if run.has_words_from_outside:
        limits.take((limits.NOTICES_FROM_OUTSIDE, f"{run.teammate_id} {run.origin}"))
        title = f"{run.teammate.name}, on a message from outside: {title}"
    told = notices.tell(run, title=title, text=arguments["message"])
    if not told:
        raise Conflict("There is nobody to tell.")
    return {"told": told}


def _report_issue(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    report = reports.file_report(
        access, arguments["message"], title=arguments.get("title", ""),
        severity=arguments.get("severity", "medium"), run=run,
    )  # fmt: skip
    return {"report_id": report.pk}


def _submit_result(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    run.output_data = arguments
    run.save(update_fields=["output_data"])
    return {"accepted": True}


# --- set-up -------------------------------------------------------------------------------------


def _list_teammates(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    return [
        {"teammate_id": one.pk, "name": one.name, "role": one.current_version.role,
         "tools": one.current_version.tools, "status": one.status}
        for one in _teammates(run, access).with_version().order_by("-id")[:MOST_LISTED]
    ]  # fmt: skip


def _create_teammate(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    made = roster.create_teammate(
        access, end_user=run.end_user, name=arguments["name"],
        role=arguments.get("role", ""), instructions=arguments.get("instructions", ""),
        tools=_own_tools(run, arguments.get("tools")), permission_mode=run.permission_mode,
        disabled_tools=run.teammate_version.disabled_tools,
    )  # fmt: skip
    return {"teammate_id": made.pk, "name": made.name}


def _update_teammate(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    teammate = _teammate(run, access, arguments["teammate_id"])
    roster.require_editor(access, teammate)
    _refuse_stronger(run, teammate)
    changes = {k: v for k, v in arguments.items() if k in ("role", "instructions")}
    if "tools" in arguments:
        changes["tools"] = _own_tools(run, arguments["tools"])
    changed = roster.update_teammate(access, teammate, **changes)
    return {"teammate_id": changed.pk, "version": changed.current_version.number}


def _own_tools(run: Run, wanted: list[str] | None) -> list[str]:
    """Apps that the run itself may use: it cannot give what it does not have."""
    for name in wanted or []:
        if name not in run.tools:
            raise Invalid(f"tools: you do not have {name!r} yourself, so you cannot give it.")
    return list(wanted or [])


def _refuse_stronger(run: Run, teammate: Teammate) -> None:
    """Raise `Forbidden` if the teammate may do what the run may not."""
    version = teammate.current_version
    is_looser = STRICTNESS.index(version.permission_mode) < STRICTNESS.index(run.permission_mode)
    if is_looser or set(version.tools) - set(run.tools) or _kept_from(run, teammate):
        raise Forbidden(f"{teammate.name} may do more than this run; a person has to change it.")


def _kept_from(run: Run, teammate: Teammate) -> set[str]:
    """Built-in tools that the run's teammate goes without and the other has."""
    theirs = teammate.current_version.disabled_tools
    return set(run.teammate_version.disabled_tools) - set(theirs)


def _set_inbox(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    teammate = _teammate(run, access, arguments["teammate_id"])
    roster.require_editor(access, teammate)
    changed = roster.set_inbox(access, teammate, enabled=arguments["enabled"])
    return {"teammate_id": changed.pk, "address": changed.email_address}


def _list_tasks(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    return [
        {"task_id": task.pk, "name": task.name, "teammate_id": task.teammate_id,
         "instructions": task.instructions[:500]}
        for task in _tasks(run, access).order_by("-id")[:MOST_LISTED]
    ]  # fmt: skip


def _create_task(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    wanted = arguments.get("teammate_id")
    teammate = _teammate(run, access, wanted) if wanted else run.teammate
    task = tasks.create_task(
        access, teammate, name=arguments["name"], instructions=arguments["instructions"],
        end_user=run.end_user,
    )  # fmt: skip
    return {"task_id": task.pk, "name": task.name}


def _run_task(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    task = _tasks(run, access).select_related("teammate").filter(pk=arguments["task_id"]).first()
    if task is None or task.status != TaskStatus.ENABLED:
        raise NotFound("There is no such task in this scope; list_tasks names those there are.")
    if run.depth >= DEEPEST:
        raise Conflict(f"Runs may start runs {DEEPEST} deep, and this is the last of them.")
    text = requests.prompt_of(task, arguments.get("message", ""))
    teammate = roster.get_teammate(replace(access, end_user=None), task.teammate_id)
    if _kept_from(run, teammate):
        raise Forbidden(f"{teammate.name} has tools that you go without; a person has to start it.")
    root = run.root_id or run.pk
    if Run.objects.filter(root_id=root).count() >= MOST_STARTED:
        raise Conflict(f"The work that began it all started {MOST_STARTED} runs already.")
    wanted = options.of_task(task).or_else(options.of_version(teammate.current_version))
    own_mode = task.permission_mode or teammate.current_version.permission_mode
    mode = max(run.permission_mode, own_mode, key=STRICTNESS.index)
    thread = conversations.create_thread(
        access, title=task.name, teammate=teammate, end_user=run.end_user
    )
    prompt = conversations.post_message(access, thread, text)
    started = enqueue.queue(
        access, thread, prompt, teammate, teammate.current_version,
        options.Options(
            permission_mode=mode,
            human_in_the_loop=mode != PermissionMode.AUTONOMOUS,
            tools=[name for name in wanted.tools or [] if name in run.tools],
            # A switch that is off here stays off; one that is on leaves it to the task.
            memory=run.memory and None,
            history=run.history and None,
            task_setup_tools=run.task_setup_tools and None,
            feedback=run.feedback and None,
        ),
        channel=Channel(run.channel), history_of=HistoryOf.TEAMMATE, task=task, started_by=run,
    )  # fmt: skip
    return {"run_id": started.pk, "status": "running"}


def _list_runs(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    runs = _runs(run, access).with_names()
    if task_id := arguments.get("task_id"):
        runs = runs.filter(task_id=task_id)
    return [
        {"run_id": one.pk, "title": one.title, "status": one.status, "teammate": one.teammate.name}
        for one in runs.newest_first()[:MOST_LISTED]
    ]


def _hear(run: Run, other: Run | None, text: str = "") -> str:
    """What `other` said is in front of the run from now on: `text` as it may be told."""
    if other is not None and not other.has_words_from_outside:
        return text
    run.heard_outside = True
    run.save(update_fields=["heard_outside"])
    conversations.mark_heard_outside(run.thread)
    return text and as_data(text, "a run in which somebody outside had a say")


def _get_run(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    found = (
        _runs(run, access).with_names().select_related("answer")
        .filter(pk=arguments["run_id"]).first()
    )  # fmt: skip
    if found is None:
        raise NotFound("There is no such run in this scope.")
    answer = _hear(run, found, found.answer.content if found.answer else "")
    written = RunFile.objects.filter(run=found).values_list("file__name", flat=True).distinct()
    return {
        "run_id": found.pk, "title": found.title, "status": found.status,
        "answer": answer or None,
        "error": found.error_message or None, "files": sorted(written),
    }  # fmt: skip


def _read_run_file(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    found = _runs(run, access).select_related("thread").filter(pk=arguments["run_id"]).first()
    written = RunFile.objects.filter(run=found, file__name=arguments["name"])
    newest = written.select_related("file").order_by("-file__version").first()
    if found is None or newest is None:
        raise NotFound("There is no such file of a run of this scope; get_run names its files.")
    try:
        text = _hear(run, found, files.read_file(newest.file).decode())
    except UnicodeDecodeError:
        raise Invalid(f"{arguments['name']} is not a text file.") from None
    return {"name": newest.file.name, "content": text}


def _list_approvals(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    waiting = Gate.objects.filter(
        status=GateStatus.PENDING, run__in=_runs(run, access)
    ).select_related("run__thread").order_by("-id")[:MOST_LISTED]  # fmt: skip
    allowed = PermissionPolicy.objects.visible_to(access).order_by("-id")[:MOST_LISTED]
    if access.origin:  # strangers do not learn what would go through
        allowed = PermissionPolicy.objects.none()
    return {
        "waiting": [
            {"run_id": gate.run_id, "what": _hear(run, gate.run, gate.prompt)} for gate in waiting
        ],
        "allowed": [{"tool": policy.tool, "only_with": policy.pattern} for policy in allowed],
    }


def _list_apps(run: Run, access: Access, call: ToolCall, arguments: dict[str, Any]) -> Any:
    servers = ToolServer.objects.visible_to(access).order_by("id")
    if access.origin:
        servers = servers.filter(slug__in=run.tools)
    connected = {server.slug: server.name for server in servers}
    known = {app.name: app.display_name for app in CATALOG.values()} | connected
    return [
        {"name": slug, "title": title, "connected": slug in connected, "yours": slug in run.tools}
        for slug, title in known.items()
    ]


def _teammates(run: Run, access: Access) -> Any:
    """The scope's teammates; for a member, without colleagues' personal ones."""
    return Teammate.objects.visible_to(access).current().filter(end_user=run.end_user)


def _teammate(run: Run, access: Access, teammate_id: int) -> Teammate:
    found: Teammate | None = _teammates(run, access).with_version().filter(pk=teammate_id).first()
    if found is None:
        raise NotFound("There is no such teammate in this scope; list_teammates names them.")
    return found


def _tasks(run: Run, access: Access) -> Any:
    """The scope's tasks; a member's own."""
    saved = Task.objects.visible_to(access).saved().current()
    return saved if run.end_user_id else saved.filter(end_user=None)


def _runs(run: Run, access: Access) -> Any:
    runs = Run.objects.visible_to(access)
    return runs if run.end_user_id else runs.filter(end_user=None)


VERBS: dict[str, Verb] = {
    "remember": _remember,
    "recall": _recall,
    "forget": _forget,
    "load_skill": _load_skill,
    "write_document": _write_document,
    "read_document": _read_document,
    "learn_lesson": _learn_lesson,
    "read_mailbox": _read_mailbox,
    "notify": _notify,
    "report_issue": _report_issue,
    result_tool.NAME: _submit_result,
    "list_teammates": _list_teammates,
    "create_teammate": _create_teammate,
    "update_teammate": _update_teammate,
    "set_inbox": _set_inbox,
    "list_tasks": _list_tasks,
    "create_task": _create_task,
    "run_task": _run_task,
    "list_runs": _list_runs,
    "get_run": _get_run,
    "read_run_file": _read_run_file,
    "list_approvals": _list_approvals,
    "list_apps": _list_apps,
}
