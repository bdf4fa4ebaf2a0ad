"""Every part that pages are composed of, in every state; in debug mode alone."""

from django.conf import settings
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from runs.models import RunStatus
from teammates.forms.people import NewKeyForm
from teammates.templatetags.parts import Tab
from teammates.web import charts
from teammates.web.pages import PageRequest


@require_GET
def design(request: PageRequest) -> HttpResponse:
    if not settings.DEBUG:
        raise Http404
    days = [f"{day} Nov" for day in range(1, 15)]
    series = [
        charts.Series("sonnet", "series-0", [3, 4, 2, 5, 1, 0, 0, 6, 7, 4, 5, 3, 1, 0], "$41"),
        charts.Series("opus", "series-1", [1, 2, 2, 0, 1, 0, 0, 2, 1, 3, 2, 2, 0, 0], "$16"),
        charts.Series("Other", "series-7", [0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0], "$4"),
    ]
    return render(
        request,
        "design/design.html",
        {
            "statuses": RunStatus.choices,
            "tones": ["", "info", "good", "caution", "failed", "paused"],
            "tabs_shown": [
                Tab("Overview", "#", is_current=True),
                Tab("Files", "#", count=3),
                Tab("Context", "#"),
            ],
            "form": NewKeyForm({"name": "", "expires_in_days": "90"}),
            "names": ["Ann", "Bo", "Demo", "Ops", "Research", "Support", "Zoë"],
            "days": [3, 4, 2, 5, 1, 0, 0, 6, 7, 4, 5, 3, 1, 0],
            "chart": charts.stacked(
                "Spend by model", days, series, say=lambda value: f"${value:g}"
            ),
            "colours": ["accent", "ok", "bad", "warn", "pause", "teal", "plum", "control"],
        },
    )
