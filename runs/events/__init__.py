"""The log of what happened: one writer, one reader, and the channels that say when."""
