"""Pictures: text, canvas, and cells drawn on a field."""
