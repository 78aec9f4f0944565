"""What can be done with manage.py."""
