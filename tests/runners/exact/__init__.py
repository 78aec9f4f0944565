"""One application in each framework, to compare what it answers here and on workers."""
