"""The command line: `python -m raincheck`."""
