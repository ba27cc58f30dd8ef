"""Parameters of the trader, and the alarms of its watch."""
