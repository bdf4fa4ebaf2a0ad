"""Thoughts that a model writes into its answer, between tags."""

BEGIN, END = "<think>", "</think>"
ANSWER = "answer"  # its first character; the white space before it belongs to the tag


class ThinkTags:
    """Cuts the beginning of an answer so that each tag is a piece of its own, however the server
    cut it. A tag behind the first word of the answer is part of what is said."""

    def __init__(self) -> None:
        self._held = ""  # perhaps the beginning of a tag
        self._awaited = BEGIN  # empty: all that follows is the answer

    def cut(self, text: str) -> list[str]:
        """The pieces that are certain after `text`."""
        text, self._held = self._held + text, ""
        pieces: list[str] = []
        while text and self._awaited:
            if self._awaited == BEGIN:
                text = self._cut_begin(text, pieces)
            elif self._awaited == END:
                text = self._cut_end(text, pieces)
            elif text := text.lstrip():
                self._awaited = ""
        return [*pieces, text] if text else pieces

    def rest(self) -> str:
        """What was held back and turned out to be no tag: the stream is over."""
        held, self._held = self._held, ""
        return held

    def _cut_begin(self, text: str, pieces: list[str]) -> str:
        said = text.lstrip()
        if said.startswith(BEGIN):
            pieces.append(BEGIN)
            self._awaited = END
            return said.removeprefix(BEGIN)
        if BEGIN.startswith(said):  # so far; white space in front of it too
            self._held = text
            return ""
        self._awaited = ""
        return text

    def _cut_end(self, text: str, pieces: list[str]) -> str:
        thought, tag, answer = text.partition(END)
        if tag:
            pieces += [thought, END] if thought else [END]
            self._awaited = ANSWER
            return answer
        held = next((n for n in range(len(END) - 1, 0, -1) if text.endswith(END[:n])), 0)
        self._held = text[len(text) - held :]
        if text[: len(text) - held]:
            pieces.append(text[: len(text) - held])
        return ""
