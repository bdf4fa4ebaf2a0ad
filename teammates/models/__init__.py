from teammates.models.api_key import APIKey, RefreshToken
from teammates.models.people import EndUser, Membership, Organization, Role, User
from teammates.models.provider import Model, ModelPrice, Provider, ProviderKind
from teammates.models.teammate import (
    Effort,
    PermissionMode,
    Teammate,
    TeammateStatus,
    TeammateVersion,
)

__all__ = [
    "APIKey",
    "Effort",
    "EndUser",
    "Membership",
    "Model",
    "ModelPrice",
    "Organization",
    "PermissionMode",
    "Provider",
    "ProviderKind",
    "RefreshToken",
    "Role",
    "Teammate",
    "TeammateStatus",
    "TeammateVersion",
    "User",
]
