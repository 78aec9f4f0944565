"""Who runs an operation elsewhere: how a handler is left to them, and what they are."""
