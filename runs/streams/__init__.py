"""Events on their way to readers: hub, SSE, websockets, and the three dialects."""
