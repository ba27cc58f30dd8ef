"""All actions of all positions on the grid: accounts, steps and values."""
