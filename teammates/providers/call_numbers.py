"""Tool calls side by side, as servers number their pieces: Ollama gives every call of an answer the
number 0, and others say the name of a call again in each of its pieces."""

from dataclasses import dataclass

from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall

from teammates.text import read_json


@dataclass
class _Call:
    number: int  # ours
    id: str = ""
    name: str = ""
    arguments: str = ""

    @property
    def is_whole(self) -> bool:
        try:
            read_json(self.arguments)
        except ValueError:
            return False
        return True


class CallNumbers:
    """Of one answer."""

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}  # the newest, by the server's number
        self._count = 0

    def tell_apart(self, piece: ChoiceDeltaToolCall) -> None:
        """Give a piece the number of its call, and its name only once."""
        if piece.index is None:
            return
        name = (piece.function.name if piece.function else None) or ""
        call = self._calls.get(piece.index)
        if call is None or _is_another(call, piece.id or "", name):
            call = self._calls[piece.index] = _Call(self._count)
            self._count += 1
        elif piece.function and name == call.name:
            piece.function.name = None
        call.id, call.name = call.id or piece.id or "", call.name or name
        call.arguments += (piece.function.arguments if piece.function else None) or ""
        piece.index = call.number


def _is_another(call: _Call, id: str, name: str) -> bool:
    """Whether a piece with an id or a name begins another call: a name may come in pieces, and a
    server may make up an id for each piece."""
    has_other_id = bool(id and call.id and id != call.id)
    if not name or not (has_other_id or name != call.name):
        return False
    return call.is_whole or (has_other_id and not call.arguments)
