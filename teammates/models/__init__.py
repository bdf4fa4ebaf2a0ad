"""The rows and their constraints."""

from teammates.models.api_key import APIKey, RefreshToken
from teammates.models.audit import AuditEntry
from teammates.models.embeddings import EmbeddingModel, PassageVector
from teammates.models.knowledge import (
    Audience,
    Author,
    Document,
    Memory,
    Passage,
    Skill,
    SkillStatus,
)
from teammates.models.limit import LimitCount
from teammates.models.people import (
    Digest,
    EndUser,
    Invitation,
    Membership,
    Organization,
    RetentionMode,
    Role,
    User,
)
from teammates.models.permission import PermissionPolicy, PolicySource, ToolMode, ToolSetting
from teammates.models.provider import Model, ModelPrice, Provider
from teammates.models.reachable import Reachable
from teammates.models.teammate import (
    Effort,
    PermissionMode,
    PromptProfile,
    Teammate,
    TeammateStatus,
    TeammateVersion,
    Visibility,
)
from teammates.models.tool_server import AuthType, ServerKind, ServerStatus, ToolServer, UsedBy
from teammates.models.web_search import WebSearch

__all__ = [
    "APIKey",
    "Audience",
    "AuditEntry",
    "AuthType",
    "Author",
    "Digest",
    "Document",
    "Effort",
    "EmbeddingModel",
    "EndUser",
    "Invitation",
    "LimitCount",
    "Membership",
    "Memory",
    "Model",
    "ModelPrice",
    "Organization",
    "Passage",
    "PassageVector",
    "PermissionMode",
    "PermissionPolicy",
    "PolicySource",
    "PromptProfile",
    "Provider",
    "Reachable",
    "RefreshToken",
    "RetentionMode",
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
    "UsedBy",
    "User",
    "Visibility",
    "WebSearch",
]
