"""Skill or luck: the trial ledger, deflated Sharpe ratio, confidence intervals."""
