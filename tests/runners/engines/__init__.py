"""Engines that are told of operations: their real workers, and what becomes of operations then."""
