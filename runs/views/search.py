"""Search over everything: a page, and the short list of the palette."""

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from runs.queries.search import search
from teammates.web.pages import PageRequest

LONGEST = 200  # characters


@require_GET
def search_page(request: PageRequest) -> HttpResponse:
    sought = request.GET.get("q", "").strip()[:LONGEST]
    brief = "brief" in request.GET
    found = search(request.access, sought, limit=5 if brief else 20)
    template = "search/search.html#results" if brief else "search/search.html"
    return render(request, template, {"sought": sought, "found": found})
