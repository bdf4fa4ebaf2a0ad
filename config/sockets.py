"""The websocket routes."""

from django.urls import path

from runs.sockets import RunSocket

websocket_urls = [path("ws/runs/<int:run_id>/", RunSocket.as_asgi())]
