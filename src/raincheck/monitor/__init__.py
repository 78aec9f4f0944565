"""What a poller sees, and when."""
