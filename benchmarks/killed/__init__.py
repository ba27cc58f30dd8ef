"""Commands of this project that are killed and typed again, and what they leave."""
