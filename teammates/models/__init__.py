from teammates.models.api_key import APIKey, RefreshToken
from teammates.models.knowledge import Audience, Author, Memory, Skill, SkillStatus
from teammates.models.people import EndUser, Membership, Organization, Role, User
from teammates.models.permission import PermissionPolicy, PolicySource, ToolMode, ToolSetting
from teammates.models.provider import Model, ModelPrice, Provider, ProviderKind
from teammates.models.teammate import (
    Effort,
    PermissionMode,
    Teammate,
    TeammateStatus,
    TeammateVersion,
)
from teammates.models.tool_server import AuthType, ServerKind, ServerStatus, ToolServer

__all__ = [
    "APIKey",
    "Audience",
    "AuthType",
    "Author",
    "Effort",
    "EndUser",
    "Membership",
    "Memory",
    "Model",
    "ModelPrice",
    "Organization",
    "PermissionMode",
    "PermissionPolicy",
    "PolicySource",
    "Provider",
    "ProviderKind",
    "RefreshToken",
    "Role",
    "ServerKind",
    "ServerStatus",
    "Skill",
    "SkillStatus",
    "Teammate",
    "TeammateStatus",
    "TeammateVersion",
    "ToolMode",
    "ToolServer",
    "ToolSetting",
    "User",
]
