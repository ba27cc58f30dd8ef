"""The compiled account step: limits, decision, orders, execution, walk."""
