"""Alarms: judged, remembered and sent."""
