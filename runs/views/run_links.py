"""Where the numbers of other pages lead: lists of runs."""

from urllib.parse import urlencode

from django.urls import reverse

from runs.queries.query_language import Term, written

Terms = list[tuple[str, str]]  # of the list of runs


def list_url(terms: Terms) -> str:
    """The list of the runs that fit all terms, archived ones too."""
    query = written([Term("", key, value) for key, value in [*terms, ("is", "any")]])
    return f"{reverse('runs:run_list')}?{urlencode({'q': query})}"
