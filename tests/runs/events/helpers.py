"""What the tests of events share."""

WIDE = {"quotes": '"', "controls": "\x01", "emoji": "🙂", "words": "a word "}
