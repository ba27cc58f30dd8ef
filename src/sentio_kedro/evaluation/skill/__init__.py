"""Skill: the trial ledger, deflated Sharpe ratio, confidence intervals."""
