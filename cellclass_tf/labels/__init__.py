"""What several stages need of label images."""
