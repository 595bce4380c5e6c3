"""What outlines cells: a watershed, and cellpose."""
