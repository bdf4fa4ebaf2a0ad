"""All routes: the two APIs, health, and the pages of the apps."""

from django.urls import include, path

from config import health
from config.api import hooks, v1, v2

urlpatterns = [
    path("v1/", v1.urls),
    path("api/v2/", v2.urls),
    path("api/v1/", hooks.urls),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("health", health.health),
    path("robots.txt", health.robots),
    path("favicon.ico", health.favicon),
    path("", include("teammates.urls")),
    path("", include("threads.urls")),
    path("", include("runs.urls")),
]
handler404 = "config.health.not_found"
handler500 = "config.health.crashed"
