"""What is done with operations, and when: the one writer of the store, and all that it needs."""
