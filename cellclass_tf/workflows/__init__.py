"""What puts several stages together."""
