"""The trader as a pure reducer: a state and an event give the next state and what to do. No clock, no I/O, no torch.

The runtime appends a fact to the journal, then gives it to ``step``; ``Record`` comes before other actions and is done,
its facts given to ``step`` too, before any other event. Right before a POST it asks ``unsendable``. It sends ``tick``
when ``due`` says so. It reads fills and corporate actions together and keeps them in the order of the venue's clock.
A process begins with ``fold`` of the journal's facts, the fact ``started`` and the signal ``restarted``; an account at
a venue opens with the fact ``adopted``.
"""

from sentio_kedro.trader.core.data import (
    Action,
    Cancel,
    Compare,
    Decide,
    Find,
    Mode,
    OpenOrder,
    Progress,
    Record,
    Rules,
    Send,
    State,
    Step,
)
from sentio_kedro.trader.core.plain import state_from_json, state_to_json
from sentio_kedro.trader.core.planning import NOT_ASKED, unsendable
from sentio_kedro.trader.core.steps import fold, step
from sentio_kedro.trader.core.upkeep import due

__all__ = [
    "NOT_ASKED",
    "Action",
    "Cancel",
    "Compare",
    "Decide",
    "Find",
    "Mode",
    "OpenOrder",
    "Progress",
    "Record",
    "Rules",
    "Send",
    "State",
    "Step",
    "due",
    "fold",
    "state_from_json",
    "state_to_json",
    "step",
    "unsendable",
]
