"""Makes training examples of annotated images, and simulates cultures."""
