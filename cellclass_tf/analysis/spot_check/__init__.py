"""A random sample of a culture, labelled by a person, and the shares that follow from it."""
