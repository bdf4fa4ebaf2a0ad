"""Input of the pages about memories, documents and skills."""

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet

from teammates.models import Provider, Teammate

MOST_FILES = 50  # in one upload


class MemoryForm(forms.Form):
    content = forms.CharField(label="Something to remember", max_length=300)


class SkillForm(forms.Form):
    name = forms.CharField(label="Name", max_length=200)
    description = forms.CharField(
        label="When to use it",
        max_length=1000,
        help_text="Teammates read this to decide whether they load it.",
    )
    body = forms.CharField(
        label="Instructions",
        max_length=50_000,
        widget=forms.Textarea(attrs={"rows": 12, "class": "mono"}),
    )
    teammate = forms.ChoiceField(label="For", required=False)
    is_active = forms.BooleanField(label="Teammates may load it", required=False, initial=True)

    def __init__(self, teammates: list[Teammate], *args: Any, is_new: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_new:
            del self.fields["teammate"]
            return
        del self.fields["is_active"]
        field = self.fields["teammate"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "All teammates"), *((t.pk, t.name) for t in teammates)]


class ManyFiles(forms.ClearableFileInput):
    allow_multiple_selected = True


class ManyFilesField(forms.FileField):
    widget = ManyFiles

    def clean(self, data: Any, initial: Any = None) -> list["UploadedFile[Any]"]:
        given = data if isinstance(data, list | tuple) else [data]
        files = [super(ManyFilesField, self).clean(one, initial) for one in given]
        if len(files) > MOST_FILES:
            raise forms.ValidationError(f"Add at most {MOST_FILES} files at once.")
        if len({file.name for file in files if file}) < len(files):
            raise forms.ValidationError("Two of these files have the same name.")
        return files


class DocumentUploadForm(forms.Form):
    upload = ManyFilesField(
        label="Files", help_text="PDF, Word, Excel, PowerPoint, HTML, CSV, Markdown or text."
    )
    teammate = forms.ChoiceField(label="For", required=False)

    def __init__(self, teammates: list[Teammate], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["teammate"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "All teammates"), *((t.pk, f"{t.name} alone") for t in teammates)]


class EmbeddingForm(forms.Form):
    """`providers` are those that may have embedding models."""

    provider = forms.ModelChoiceField(
        queryset=Provider.objects.none(), label="Provider", empty_label=None
    )
    name = forms.CharField(
        label="Embedding model",
        max_length=200,
        help_text="As the provider calls it: text-embedding-3-small, nomic-embed-text.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, providers: "QuerySet[Provider]", *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["provider"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = providers


class DocumentForm(forms.Form):
    name = forms.CharField(label="Name", max_length=200)
    summary = forms.CharField(
        label="What it says",
        max_length=1000,
        required=False,
        help_text="One line: teammates read it to decide whether to look here.",
    )
