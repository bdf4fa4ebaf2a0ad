"""Fields that several forms have."""

from typing import Any

from django import forms


class SecretField(forms.CharField):
    """A key: not seen while it is typed, nor filled in by a browser."""

    def __init__(self, **options: Any) -> None:
        widget = forms.PasswordInput(attrs={"autocomplete": "off"})
        super().__init__(**{"widget": widget} | options)
