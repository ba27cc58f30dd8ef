"""The second process: status page, metrics, alarms and the dead-man switch, from the journal read only."""
