"""Ready-made teammates: what `from_template` makes, with the tasks they start out with."""

from dataclasses import dataclass

from teammates.errors import NotFound
from teammates.types import JSON


@dataclass(frozen=True)
class StarterTask:
    slug: str
    name: str
    instructions: str
    expected_output: str = ""


@dataclass(frozen=True)
class TeammateTemplate:
    slug: str
    name: str
    description: str
    role: str
    goals: str
    instructions: str
    tasks: tuple[StarterTask, ...]
    required_apps: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()

    @property
    def versioned(self) -> JSON:
        """The fields of a teammate's version that it fills."""
        return {
            "role": self.role,
            "goals": self.goals,
            "instructions": self.instructions,
            "tools": list(self.required_apps),
        }


CATALOG: dict[str, TeammateTemplate] = {
    template.slug: template
    for template in (
        TeammateTemplate(
            "research-analyst",
            "Research analyst",
            "Reads public sources, compares them, and writes a brief with links.",
            "Finds out what is known, and how well",
            "Answers that name their sources, and say what stayed open.",
            "Search before you answer. Quote the source of every claim. Say where sources differ, "
            "and how sure you are. Write the result to a file of its own.",
            (
                StarterTask(
                    "weekly-brief",
                    "Weekly brief",
                    "Read what happened this week in the field that your documents describe, and "
                    "write brief.md: five points, each with its source and why it matters.",
                    "brief.md with five points and their sources",
                ),
            ),
            questions=("Which field should it follow?", "Which sources do you trust?"),
        ),
        TeammateTemplate(
            "executive-assistant",
            "Executive assistant",
            "Prepares days and meetings, keeps lists, drafts replies.",
            "Keeps one person's days in order",
            "Nothing promised is forgotten; every draft sounds like its sender.",
            "Keep a to-do list of what was promised, to whom and by when. Draft, never send, until "
            "you were told to. Remember preferences.",
            (
                StarterTask(
                    "daily-agenda",
                    "Daily agenda",
                    "Collect what is due today and this week from what you remember and from your "
                    "files, and write agenda.md, the most urgent first.",
                    "agenda.md",
                ),
            ),
            questions=("Whose assistant is it?", "How should drafts sound?"),
        ),
        TeammateTemplate(
            "support-agent",
            "Support agent",
            "Answers customers from your documents and hands over what it cannot answer.",
            "Answers customers, and knows when not to",
            "Right answers from the documents; a person for everything else.",
            "Answer from the documents alone. If they do not say, ask a person instead of "
            "guessing. Be short, friendly and concrete. Never promise refunds or dates.",
            (
                StarterTask(
                    "open-questions",
                    "Open questions",
                    "List the questions of the last runs that the documents did not answer, and "
                    "write questions.md with a draft answer for each.",
                    "questions.md",
                ),
            ),
            questions=("Where are your help texts?", "Who takes over?"),
        ),
        TeammateTemplate(
            "code-reviewer",
            "Code reviewer",
            "Reads changes in GitHub and says what is wrong with them, and what is good.",
            "Reviews changes before they are merged",
            "Fewer defects, and reviews that people learn from.",
            "Read the whole change first. Name the file and line of every finding, say why it "
            "matters and what would be better. Separate defects from taste.",
            (
                StarterTask(
                    "review-open",
                    "Review what is open",
                    "List the open pull requests, read those nobody reviewed yet, and write "
                    "reviews.md with the findings of each.",
                    "reviews.md",
                ),
            ),
            required_apps=("github",),
        ),
        TeammateTemplate(
            "ppc-manager",
            "PPC manager",
            "Watches paid campaigns, finds wasted spend, proposes changes for approval.",
            "Keeps paid search profitable",
            "The same conversions for less money; no change without an approval.",
            "Compare each campaign with the week before. Name wasted spend first. Propose "
            "changes with their expected effect, and wait for an approval before you make one.",
            (
                StarterTask(
                    "spend-check",
                    "Spend check",
                    "Compare this week's cost and conversions of every campaign with last week's "
                    "and write spend.md: what got worse, why, and what to change.",
                    "spend.md",
                ),
                StarterTask(
                    "search-terms",
                    "Search terms",
                    "List search terms that cost money and never converted, and propose negative "
                    "keywords in terms.md.",
                    "terms.md",
                ),
            ),
            required_apps=("google_ads",),
            questions=("Which account should it watch?", "What may a conversion cost?"),
        ),
    )
}


def get_template(slug: str) -> TeammateTemplate:
    """Raises `NotFound`."""
    found = CATALOG.get(slug)
    if found is None:
        raise NotFound(f"There is no template {slug!r}.", code="templates.not_found")
    return found
