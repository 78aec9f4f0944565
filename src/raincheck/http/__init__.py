"""HTTP as values, and what the standards say of it; nothing here knows of operations."""
