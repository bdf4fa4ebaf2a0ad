from django.urls import path

from threads import views

app_name = "threads"
urlpatterns = [path("files/<uuid:uid>/", views.file_download, name="file_download")]
