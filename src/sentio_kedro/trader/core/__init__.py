"""The reducer behind ``trader.state``: data, facts, answers, planning, upkeep, and the step that joins them."""
