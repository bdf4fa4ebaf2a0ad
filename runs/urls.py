from django.urls import path

from runs.views import design, gates, home, reports, runs, search, shared, threads, usage

app_name = "runs"
urlpatterns = [
    path("", home.home, name="home"),
    path("needs-you/", gates.needs_you, name="needs_you"),
    path("needs-you/approve/", gates.gates_approve, name="gates_approve"),
    path("needs-you/<int:gate_id>/presence/", gates.gate_presence, name="gate_presence"),
    path("needs-you/<int:gate_id>/snooze/", gates.gate_snooze, name="gate_snooze"),
    path("decide/<str:token>/", gates.gate_link, name="gate_link"),
    path("settings/reports/", reports.report_list, name="report_list"),
    path("settings/reports/<int:report_id>/close/", reports.report_close, name="report_close"),
    path("notices/<int:notice_id>/dismiss/", reports.notice_dismiss, name="notice_dismiss"),
    path("shared/runs/<str:token>/", shared.shared_run, name="shared_run"),
    path("shared/runs/<str:token>/<str:name>", shared.shared_file, name="shared_file"),
    path("shared/artifacts/<str:token>", shared.shared_artifact, name="shared_artifact"),
    path("search/", search.search_page, name="search"),
    path("design/", design.design, name="design"),
    path("demo/", home.demo_words, name="demo"),
    path("first-steps/dismiss/", home.first_steps_dismiss, name="first_steps_dismiss"),
    path("usage/", usage.usage_page, name="usage"),
    path("status", home.status, name="status"),
    path("threads/", threads.thread_list, name="thread_list"),
    path("threads/new/", threads.thread_new, name="thread_new"),
    path("threads/<int:thread_id>/", threads.thread_detail, name="thread_detail"),
    path("threads/<int:thread_id>/send/", threads.thread_send, name="thread_send"),
    path("threads/<int:thread_id>/rename/", threads.thread_rename, name="thread_rename"),
    path("threads/<int:thread_id>/delete/", threads.thread_delete, name="thread_delete"),
    path("runs/", runs.run_list, name="run_list"),
    path("runs/<int:run_id>/", runs.run_detail, name="run_detail"),
    path("runs/<int:run_id>/stream", runs.run_stream, name="run_stream"),
    path("runs/<int:run_id>/mode/", runs.run_mode, name="run_mode"),
    path("runs/<int:run_id>/cancel/", runs.run_cancel, name="run_cancel"),
    path("runs/<int:run_id>/answer/", gates.gate_decide, name="gate_decide"),
]
