"""Compiled decisions: from the market row and the account to requested positions."""

from __future__ import annotations

from math import exp, inf, log, log1p, nan
from typing import NamedTuple

import numpy as np
import torch

from sentio_kedro.trading.compilation import compiled
from sentio_kedro.trading.records import Accounts, Floats, Integers, Market, Mask, Scratch, Terms

ACCOUNT_FEATURES = 4  # G
MIN_UNIT = 0.05  # smallest unit of positions, share of the allocation
LOG2_E, LOG_2 = 1.4426950408889634, 0.6931471805599453
ROUNDER = 1.5 * 2.0**52
LANES = 4  # levels whose logits are summed at once
MAX_UNITS = 2.0  # units at which a drifted position is clipped
HEADS, SAMPLED, TARGETS = 0, 1, 2  # kinds of policies
NEVER = 2**62  # a step that no walk reaches


class Policies(NamedTuple):
    """What N accounts decide by, as arrays; rows are those of the market, less the account's ``first_row``.

    Arrays of floats may be tensors on a GPU, where the accounts walk then.

    Attributes:
        kind: ``[N]`` ``HEADS`` (the likeliest level), ``SAMPLED`` (a level drawn from the agent's probabilities) or
            ``TARGETS`` (a table of positions).
        source: ``[N]`` agent or table of targets.
        draws: ``[N]`` column of ``noise``.
        first_row: ``[N]`` market row of the first row of the arrays below.
        starts: ``[N]`` first step at which the account sends orders.
        closes: ``[N]`` step at which it closes all positions; it sends no order afterwards.
        projected: ``[rows, agents, M, A, H]`` market part of the hidden layers of M members.
        account_weight: ``[agents, M, G, H]``.
        policy_weight: ``[rows, agents, M, H, B']`` mixed over the regimes' experts; one row where there are none. B' is
            B rounded up to a multiple of ``LANES``.
        policy_bias: ``[rows, agents, M, B]`` likewise.
        fixed_level: ``[agents]`` level that an agent takes whatever its network says; NaN lets the network decide.
        masked: ``[1]`` whether illegal levels have no probability.
        noise: ``[S, K, A, B]`` standard Gumbel noise of drawn levels.
        targets: ``[rows, tables, A]`` positions, fraction of equity; NaN sends no order.
    """

    kind: Integers
    source: Integers
    draws: Integers
    first_row: Integers
    starts: Integers
    closes: Integers
    projected: Floats
    account_weight: Floats
    policy_weight: Floats
    policy_bias: Floats
    fixed_level: Floats
    masked: Mask
    noise: Floats
    targets: Floats

    @property
    def size(self) -> int:
        """Number of accounts N."""
        return len(self.kind)


@compiled
def set_account_features(n: int, accounts: Accounts, terms: Terms, scratch: Scratch) -> None:
    """Write the policy's features of account ``n`` to ``scratch.features``.

    Position and gross exposure in units of what the hard limits leave of the allocation and of the gross limit, log
    bars held, and the share of the allocation that all layers leave; 0 without an allocation.
    """
    features, limits, gross = scratch.features[n], scratch.limits[n], 0.0
    most = max(scratch.bounds[n].headroom, MIN_UNIT) * terms.rules[0].gross_limit
    for a in range(len(limits)):
        gross += abs(limits[a].position)
    for a in range(len(limits)):
        share, limit = terms.allocation[a] if terms.allocation[a] > 0.0 else inf, limits[a]  # inf leaves features of 0
        unit = min(max(limit.cap, MIN_UNIT * share), share)
        features[a, 0] = min(max(limit.position / unit, -MAX_UNITS), MAX_UNITS)
        features[a, 1] = min(gross / most, MAX_UNITS)
        features[a, 2] = log1p(accounts.holdings[n, a].bars_held) * 0.2
        features[a, 3] = min(limit.cap, limit.growth, share) / share


@compiled
def set_silu(values: Floats, powers: Floats, series: Floats, bits: Integers) -> None:
    """Replace ``values`` ``[H]`` by x / (1 + exp(-x)), in loops that vectorise; ``bits`` are the bits of ``powers``.

    exp is 2^k exp(r): k is rounded by adding 1.5 x 2^52, which leaves it in the lowest bits; exp(r) is its Taylor
    polynomial of degree 8, within 1e-9 of it for |r| <= log(2) / 2.
    """
    for h in range(len(values)):
        x = -values[h]
        x = x if x < 700.0 else 700.0  # noqa: PLR2004 - exp(709.8) overflows
        x = x if x > -700.0 else -700.0  # noqa: PLR2004
        powers[h] = x * LOG2_E + ROUNDER
        r = x - (powers[h] - ROUNDER) * LOG_2
        higher = 1 / 120 + r * (1 / 720 + r * (1 / 5040 + r * (1 / 40320)))
        series[h] = 1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * higher))))
    for h in range(len(values)):
        bits[h] = (bits[h] << 52) + (1023 << 52)
    for h in range(len(values)):
        values[h] = values[h] / (1.0 + series[h] * powers[h])


@compiled
def set_logits(n: int, member: int, row: int, a: int, policies: Policies, scratch: Scratch) -> None:
    """Write a member's logits of one asset to ``scratch.logits``."""
    agent, features = policies.source[n], scratch.features[n]
    weight, projected = policies.account_weight[agent, member], policies.projected[row, agent, member, a]
    first, second, third, fourth = features[a, 0], features[a, 1], features[a, 2], features[a, 3]
    units, logits = scratch.hidden[n], scratch.logits[n]
    for h in range(len(units)):
        account = weight[0, h] * first + weight[1, h] * second + weight[2, h] * third + weight[3, h] * fourth
        units[h] = projected[h] + account
    set_silu(units, scratch.powers[n], scratch.series[n], scratch.bits[n])
    mixed = min(row, len(policies.policy_weight) - 1)
    levels, bias = policies.policy_weight[mixed, agent, member], policies.policy_bias[mixed, agent, member]
    for b in range(0, levels.shape[1], LANES):
        one, two, three, four = 0.0, 0.0, 0.0, 0.0  # sums of four levels at a time, so that they vectorise
        for h in range(len(units)):
            one += levels[h, b] * units[h]
            two += levels[h, b + 1] * units[h]
            three += levels[h, b + 2] * units[h]
            four += levels[h, b + 3] * units[h]
        logits[b], logits[b + 1], logits[b + 2], logits[b + 3] = one, two, three, four
    for b in range(len(bias)):
        logits[b] += bias[b]


@compiled
def set_probabilities(n: int, row: int, a: int, policies: Policies, scratch: Scratch) -> None:
    """Write the mean of the members' probabilities of one asset's levels to ``scratch.probabilities``.

    Illegal levels have none; an unmasked policy may choose any level of an asset that has a choice.
    """
    logits, probabilities, legal = scratch.logits[n], scratch.probabilities[n], scratch.legal[n]
    levels = legal.shape[1]
    choices, members = 0, policies.projected.shape[2]
    for b in range(levels):
        choices += legal[a, b]
        probabilities[b] = 0.0
    free = choices > 1 and not policies.masked[0]
    for member in range(members):
        set_logits(n, member, row, a, policies, scratch)
        largest, total = -inf, 0.0
        for b in range(levels):
            if free or legal[a, b]:
                largest = max(largest, logits[b])
        for b in range(levels):
            logits[b] = exp(logits[b] - largest) if free or legal[a, b] else 0.0
            total += logits[b]
        for b in range(levels):
            probabilities[b] += logits[b] / (total * members)


@compiled
def decide(n: int, row: int, step: int, market: Market, terms: Terms, policies: Policies, scratch: Scratch) -> None:
    """Write requested positions to ``scratch.limits`` and levels to ``scratch.actions`` (-1 without one).

    The likeliest level under the members' mean probabilities, or one drawn from them by Gumbel noise.
    """
    kind, index, place = policies.kind[n], policies.source[n], row - policies.first_row[n]
    limits, actions = scratch.limits[n], scratch.actions[n]
    for a in range(len(limits)):
        actions[a] = -1
        if step < policies.starts[n] or step > policies.closes[n]:
            limits[a].requested = nan
        elif step == policies.closes[n]:
            limits[a].requested = 0.0
        elif kind == TARGETS:
            limits[a].requested = policies.targets[place, index, a]
        elif policies.fixed_level[index] == policies.fixed_level[index]:  # a number
            limits[a].requested = policies.fixed_level[index] * market.facts[row, a].unit
        else:
            set_probabilities(n, place, a, policies, scratch)
            best, chosen = -inf, 0
            for b in range(len(terms.levels)):
                score = scratch.probabilities[n, b]
                if score > 0.0 and kind == SAMPLED:
                    score = log(score) + policies.noise[step, policies.draws[n], a, b]
                elif score == 0.0:
                    score = -inf
                if score > best:
                    best, chosen = score, b
            actions[a] = chosen
            limits[a].requested = terms.levels[chosen] * market.facts[row, a].unit


def make_policies(
    kind: Integers,
    assets: int,
    levels: int,
    *,
    source: Integers | None = None,
    draws: Integers | None = None,
    starts: Integers | None = None,
    closes: Integers | None = None,
    targets: Floats | None = None,
    noise: Floats | None = None,
) -> Policies:
    """Policies of N accounts without networks, whose arrays ``with_heads`` adds.

    Args:
        kind: ``[N]`` kinds.
        assets: Number of assets A.
        levels: Number of levels B.
        source: ``[N]`` agent or table; None is the first.
        draws: ``[N]`` column of ``noise``; None is the first.
        starts: ``[N]`` first step with orders; None is 0.
        closes: ``[N]`` step at which positions are closed; None is never.
        targets: ``[rows, tables, A]``; None is no table.
        noise: ``[S, K, A, B]``; None draws nothing.
    """
    size, zeros = len(kind), np.zeros
    return Policies(
        kind=np.asarray(kind, np.int64),
        source=zeros(size, np.int64) if source is None else np.asarray(source, np.int64),
        draws=zeros(size, np.int64) if draws is None else np.asarray(draws, np.int64),
        first_row=zeros(size, np.int64),
        starts=zeros(size, np.int64) if starts is None else np.asarray(starts, np.int64),
        closes=np.full(size, NEVER) if closes is None else np.asarray(closes, np.int64),
        projected=zeros((0, 1, 1, assets, 1)),
        account_weight=zeros((1, 1, ACCOUNT_FEATURES, 1)),
        policy_weight=zeros((1, 1, 1, 1, LANES * -(-levels // LANES))),
        policy_bias=zeros((1, 1, 1, levels)),
        fixed_level=np.full(1, nan),
        masked=np.ones(1, np.bool_),
        noise=zeros((0, 1, assets, levels)) if noise is None else np.ascontiguousarray(noise),
        targets=zeros((0, 1, assets)) if targets is None else np.ascontiguousarray(targets),
    )


class Heads(NamedTuple):
    """Networks of N agents of M members at consecutive rows: the part of ``Policies`` of the same names.

    Attributes:
        projected: ``[rows, agents, M, A, H]``.
        account_weight: ``[agents, M, G, H]``.
        policy_weight: ``[rows, agents, M, H, B']``.
        policy_bias: ``[rows, agents, M, B]``.
        fixed_level: ``[agents]``.
        masked: ``[1]``.
    """

    projected: Floats
    account_weight: Floats
    policy_weight: Floats
    policy_bias: Floats
    fixed_level: Floats
    masked: Mask


def with_heads(policies: Policies, heads: Heads, first_row: Integers | int = 0) -> Policies:
    """Give policies the networks that their accounts of kind ``HEADS`` and ``SAMPLED`` decide by.

    ``first_row`` is the market row of the networks' first row, one for all accounts or ``[N]``.

    Raises:
        FloatingPointError: If the networks are not finite: every level would be as unlikely as any other.
    """
    broken = [
        name
        for name, part in heads._asdict().items()
        if name != "fixed_level" and not (torch.isfinite if isinstance(part, torch.Tensor) else np.isfinite)(part).all()
    ]
    if broken:
        raise FloatingPointError(
            f"{', '.join(broken)} of the policies must be finite, were not; look for wild values in the features, or "
            "train with a lower `training.learning_rate`."
        )
    return policies._replace(**heads._asdict(), first_row=np.full(policies.size, first_row, np.int64))
