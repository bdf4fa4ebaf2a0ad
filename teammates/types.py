"""Names for what is only known by its keys."""

from typing import Any

JSON = dict[str, Any]  # an object of JSON
Context = dict[str, Any]  # what a template is given
ToolOutput = JSON | list[JSON] | list[str] | str  # what a built-in tool gives back
