"""Telling people: notices, and reports about Muster itself."""

from teammates.tools.base import Means, Text, Tool, choice, object_schema

NOTIFY = Tool(
    name="notify",
    title="Notify",
    description="Tell the person who started this work something that cannot wait for the end of "
    "the run. It appears on their home page and is sent by e-mail.",
    schema=object_schema(
        ["message"],
        title=Text("What it is about, in a few words.", 100).schema,
        message=Text("What they should know.", 2000).schema,
    ),
    say=lambda arguments: f"Notify the person: {arguments.get('title') or arguments['message']}",
    run=Means.DOMAIN,
    group="notify",
    changes=True,
    approval="never",
    safe_for_end_users=False,
    preview="message",
)
REPORT_ISSUE = Tool(
    name="report_issue",
    title="Report an issue",
    description="Report a problem with your tools or with Muster itself to those who run it. Not "
    "for the person's own work.",
    schema=object_schema(
        ["message"],
        title=Text("What is wrong, in a few words.", 100).schema,
        message=Text("What you did, what happened, what you expected.", 4000).schema,
        severity=choice("How much it hinders you.", "low", "medium", "high"),
    ),
    say=lambda arguments: f"Report: {arguments.get('title') or arguments['message']}",
    run=Means.DOMAIN,
    group="feedback",
    changes=True,
    approval="never",
)
