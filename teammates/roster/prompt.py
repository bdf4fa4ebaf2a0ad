"""The standing prompt: what a teammate is told before anything is asked of it."""

from teammates.models import PromptProfile, TeammateVersion

PROFILES = {
    PromptProfile.PLATFORM: "Its name, role, goals and instructions; runs add memories, skills, "
    "documents and lessons that fit.",
    PromptProfile.BARE: "Its own instructions alone; runs still add what they need to work.",
}


def standing_prompt(name: str, version: TeammateVersion) -> str:
    if version.prompt_profile == PromptProfile.BARE:
        return version.instructions
    parts = [f"You are {name}."]
    if version.role:
        parts.append(f"Your role: {version.role}")
    if version.goals:
        parts.append(f"Your goals: {version.goals}")
    if version.instructions:
        parts.append(version.instructions)
    return "\n\n".join(parts)
