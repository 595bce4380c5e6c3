"""Pictures: text, canvas, and cells drawn over a field."""
