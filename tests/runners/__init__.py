"""What the rest of an application sees of a request whose handler runs elsewhere."""
