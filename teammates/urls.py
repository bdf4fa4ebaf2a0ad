from django.urls import path

from teammates import views

app_name = "teammates"
urlpatterns = [
    path("setup/<str:token>/", views.setup, name="setup"),
    path("sign-in/", views.sign_in, name="sign_in"),
    path("sign-out/", views.sign_out, name="sign_out"),
    path("teammates/", views.teammate_list, name="teammate_list"),
    path("teammates/new/", views.teammate_new, name="teammate_new"),
    path("teammates/<int:teammate_id>/", views.teammate_detail, name="teammate_detail"),
    path("teammates/<int:teammate_id>/edit/", views.teammate_edit, name="teammate_edit"),
    path("teammates/<int:teammate_id>/archive/", views.teammate_archive, name="teammate_archive"),
    path("settings/models/", views.model_settings, name="model_settings"),
    path("settings/models/<int:model_id>/test/", views.model_test, name="model_test"),
    path("settings/models/<int:model_id>/default/", views.model_default, name="model_default"),
    path("settings/providers/<int:provider_id>/key/", views.provider_key, name="provider_key"),
    path("settings/keys/new/", views.key_new, name="key_new"),
    path("settings/keys/<int:key_id>/revoke/", views.key_revoke, name="key_revoke"),
]
