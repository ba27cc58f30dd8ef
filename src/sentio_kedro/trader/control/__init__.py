"""What a person sees of a trader, and tells it."""
