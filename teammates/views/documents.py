"""Documents: what teammates look things up in, brought as files, searched, and read at a place."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from teammates.errors import DomainError
from teammates.forms.knowledge import DocumentForm, DocumentUploadForm
from teammates.knowledge import documents, passages
from teammates.roster import lookup
from teammates.views.embedding import embedding_context
from teammates.web.pages import PageRequest, add_refusal, number_of, page_of

PAGE_SIZE = 50
PASSAGES_SHOWN = 40
MOST_FOUND = 20


@require_http_methods(["GET", "POST"])
def document_list(request: PageRequest) -> HttpResponse:
    """The account's documents; files brought are added, and what a teammate would find is shown."""
    access = request.access
    form = DocumentUploadForm(
        lookup.own_teammates(access), request.POST or None, request.FILES or None
    )
    if request.method == "POST" and form.is_valid():
        chosen = form.cleaned_data["teammate"]
        teammate = lookup.get_teammate(access, int(chosen)) if chosen else None
        added = []
        for file in form.cleaned_data["upload"]:
            try:
                added.append(
                    documents.add_file(access, file.name, file.read(), teammate=teammate).name
                )
            except DomainError as error:
                form.add_error("upload", error.message)
        if added:
            messages.success(request, f"Added: {', '.join(added)}.")
        if not form.errors:
            return redirect("teammates:document_list")
    sought = request.GET.get("q", "").strip()[:400]
    listed = documents.list_documents(access).select_related("teammate", "created_by", "written_by")
    return render(
        request,
        "settings/document_list.html",
        {
            "page": page_of(request, listed.defer("content"), "-id", size=PAGE_SIZE),
            "form": form,
            "sought": sought,
            **embedding_context(access),
            "found": passages.search_passages(listed, sought, limit=MOST_FOUND) if sought else [],
        },
        status=422 if form.errors else 200,
    )


@require_http_methods(["GET", "POST"])
def document_detail(request: PageRequest, document_id: int) -> HttpResponse:
    """A document, at the passage that `?passage=` names; its name and summary are changed here."""
    access = request.access
    document = documents.get_document(access, pk=document_id)
    form = DocumentForm(
        request.POST or None, initial={"name": document.name, "summary": document.summary}
    )
    if request.method == "POST" and form.is_valid():
        try:
            documents.update_document(access, document, **form.cleaned_data)
        except DomainError as error:
            add_refusal(form, error)
            document.refresh_from_db(fields=["name", "summary"])
        else:
            messages.success(request, f"{document.name} is saved.")
            return redirect("teammates:document_detail", document.pk)
    count = document.passages.count()
    at = min(max(number_of(request.GET.get("passage", "")) or 1, 1), max(count, 1))
    first = (at - 1) // PASSAGES_SHOWN * PASSAGES_SHOWN + 1
    last = first + PASSAGES_SHOWN - 1
    shown = list(document.passages.filter(number__range=(first, last)).order_by("number"))
    cited = request.GET.get("digest", "")
    is_changed = bool(cited) and cited not in {one.digest for one in shown if one.number == at}
    return render(
        request,
        "settings/document_detail.html",
        {
            "document": document,
            "form": form,
            "passages": shown,
            "is_changed": is_changed,
            "count": count,
            "first": first,
            "last": min(last, count),
            "earlier": first - PASSAGES_SHOWN if first > 1 else None,
            "later": last + 1 if last < count else None,
            "at": at if "passage" in request.GET and not is_changed else None,
        },
        status=422 if form.errors else 200,
    )


@require_POST
def document_delete(request: PageRequest, document_id: int) -> HttpResponse:
    document = documents.get_document(request.access, pk=document_id)
    documents.delete_document(request.access, document)
    messages.success(request, f"{document.name} is deleted.")
    return redirect("teammates:document_list")
