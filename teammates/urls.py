from django.urls import path

from teammates.views import (
    account,
    audit,
    documents,
    embedding,
    entry,
    keys,
    knowledge,
    members,
    models,
    servers,
    settings,
)

app_name = "teammates"
urlpatterns = [
    path("sign-in/", entry.sign_in, name="sign_in"),
    path("forgot/", entry.forgot, name="forgot"),
    path("reset/<str:token>/", entry.reset, name="reset"),
    path("sign-out/", entry.sign_out, name="sign_out"),
    path("settings/", settings.general, name="settings"),
    path("settings/account/", account.account, name="account"),
    path("settings/appearance/", settings.appearance, name="appearance"),
    path("settings/models/", models.model_settings, name="model_settings"),
    path("settings/models/local/", models.local_servers, name="local_servers"),
    path("settings/providers/<int:provider_id>/models/", models.model_new, name="model_new"),
    path("settings/providers/names/", models.provider_names, name="provider_names"),
    path("settings/providers/<int:provider_id>/names/", models.model_names, name="model_names"),
    path(
        "settings/providers/<int:provider_id>/delete/",
        models.provider_delete,
        name="provider_delete",
    ),
    path("settings/models/<int:model_id>/test/", models.model_test, name="model_test"),
    path("settings/models/<int:model_id>/default/", models.model_default, name="model_default"),
    path("settings/providers/<int:provider_id>/key/", models.provider_key, name="provider_key"),
    path(
        "settings/providers/<int:provider_id>/address/",
        models.provider_address,
        name="provider_address",
    ),
    path("settings/audit/", audit.audit_log, name="audit_log"),
    path("settings/members/", members.member_list, name="member_list"),
    path("settings/members/<int:membership_id>/role/", members.member_role, name="member_role"),
    path(
        "settings/members/<int:membership_id>/remove/", members.member_remove, name="member_remove"
    ),
    path("settings/invitations/new/", members.invitation_new, name="invitation_new"),
    path(
        "settings/invitations/<int:invitation_id>/renew/",
        members.invitation_renew,
        name="invitation_renew",
    ),
    path(
        "settings/invitations/<int:invitation_id>/revoke/",
        members.invitation_revoke,
        name="invitation_revoke",
    ),
    path("join/<str:token>/", members.join, name="join"),
    path("organization/", members.organization_switch, name="organization_switch"),
    path("settings/keys/", keys.key_list, name="key_list"),
    path("settings/keys/new/", keys.key_new, name="key_new"),
    path("settings/keys/<int:key_id>/rotate/", keys.key_rotate, name="key_rotate"),
    path("settings/keys/<int:key_id>/revoke/", keys.key_revoke, name="key_revoke"),
    path("settings/models/<int:model_id>/limits/", models.model_limits, name="model_limits"),
    path("settings/apps/", servers.server_list, name="server_list"),
    path("settings/apps/<int:server_id>/", servers.server_detail, name="server_detail"),
    path("settings/apps/<int:server_id>/users/", servers.server_users, name="server_users"),
    path("settings/apps/<int:server_id>/act/", servers.server_act, name="server_act"),
    path("settings/apps/<str:name>/connect/", servers.app_connect, name="app_connect"),
    path("settings/memories/", knowledge.memory_list, name="memory_list"),
    path(
        "settings/memories/<int:memory_id>/forget/", knowledge.memory_forget, name="memory_forget"
    ),
    path("settings/documents/", documents.document_list, name="document_list"),
    path("settings/documents/meaning/", embedding.embedding_settings, name="embedding_settings"),
    path("settings/documents/meaning/names/", embedding.embedding_names, name="embedding_names"),
    path(
        "settings/documents/<int:document_id>/", documents.document_detail, name="document_detail"
    ),
    path(
        "settings/documents/<int:document_id>/delete/",
        documents.document_delete,
        name="document_delete",
    ),
    path("settings/skills/", knowledge.skill_list, name="skill_list"),
    path("settings/skills/new/", knowledge.skill_edit, name="skill_new"),
    path("settings/skills/<int:skill_id>/", knowledge.skill_edit, name="skill_edit"),
    path("settings/skills/<int:skill_id>/delete/", knowledge.skill_delete, name="skill_delete"),
]
