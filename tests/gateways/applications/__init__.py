"""One small application, written in each framework, behind raincheck in each of its forms."""
