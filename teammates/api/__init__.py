"""People, keys, knowledge, tools and apps over both contracts."""
