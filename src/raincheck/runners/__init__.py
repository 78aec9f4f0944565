"""Who runs an operation elsewhere: what the process that was asked does, and what a worker does."""
