"""Real fields: this package beside what people would use instead."""
