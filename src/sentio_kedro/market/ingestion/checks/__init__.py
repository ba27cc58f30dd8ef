"""Checks of delivered bars by what they look at: columns, keys, values, lengths of bars, moves of prices."""
