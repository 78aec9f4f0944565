"""A shop that sells weather."""
