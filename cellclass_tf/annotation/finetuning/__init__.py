"""Fine-tunes cellpose on a study's corrected fields."""
