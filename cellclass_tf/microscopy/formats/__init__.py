"""One file a family of formats: each says what is its own, and reads it plane by plane."""
