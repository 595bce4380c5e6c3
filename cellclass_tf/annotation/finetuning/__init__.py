"""cellpose, trained further on a study's corrected fields."""
