"""Sessions that follow a feed for one account and go on after a restart to the last bit."""
