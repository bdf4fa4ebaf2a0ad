"""An MCP server for tests. How it behaves is its first argument; a second one names a file that
counts its calls.
"""

import base64
import os
import sys
from pathlib import Path

from mcp.server import MCPServer
from mcp.types import (
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ToolAnnotations,
)

MODE = sys.argv[1] if len(sys.argv) > 1 else "ok"
COUNTER = Path(sys.argv[2]) if len(sys.argv) > 2 else None
PIXEL = (  # a PNG of the sky
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mOIWvAMAAM4AeFD1lHbAAAAAElFTkSuQmCC"
)

server = MCPServer("weather")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def forecast(city: str) -> str:
    """Tomorrow's weather."""
    if MODE == "crash":
        os._exit(3)
    return f"Sunny in {city}, says {os.environ.get('STATION', 'nobody')}"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def picture() -> ImageContent:
    """A picture of the sky."""
    return ImageContent(type="image", data=PIXEL, mime_type="image/png")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def postcard() -> CallToolResult:
    """The picture, and once more in a form."""
    content = [ImageContent(type="image", data=PIXEL, mime_type="image/png")]
    form = {"sent": [{"data": PIXEL, "from": "Bern"}]}
    return CallToolResult(content=content, structured_content=form)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def report() -> EmbeddedResource:
    """The report of the year."""
    blob = base64.b64encode(b"%PDF-1.4 of the year").decode()
    contents = BlobResourceContents(uri="weather://report", mime_type="application/pdf", blob=blob)
    return EmbeddedResource(type="resource", resource=contents)


@server.tool()
def make_rain(city: str) -> str:
    """Make it rain."""
    if COUNTER is not None:
        COUNTER.write_text(str(int(COUNTER.read_text() or "0") + 1) if COUNTER.exists() else "1")
    if MODE == "dies_raining":
        os._exit(3)
    return f"It rains in {city}"


if MODE == "two":

    @server.tool()
    def make_snow() -> str:
        """Make it snow."""
        return "snow"


if __name__ == "__main__":
    if MODE == "garbage":
        print("hello, this is not MCP at all", flush=True)
        for line in sys.stdin:
            print(f"you said {line}", flush=True)
    elif MODE == "dead":
        print("the key of the station is missing", file=sys.stderr)
        sys.exit(1)
    elif MODE == "http":
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run("stdio")
