"""What users set: the options, what they may be, and what follows from them for a request. Pure."""
