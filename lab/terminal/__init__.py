"""What a run looks like in a terminal: a live table, plain lines where there is no terminal, and the summary.

Views read events and RunState; they never train.
"""

from lab.terminal._explained import explanation
from lab.terminal._run import device_table, failure_text, scaling_table, summary
from lab.terminal._tables import devices_table, hardware_table, links_table, profile_table
from lab.terminal._views import JsonView, LineView, LiveView, PipeConsole, View
from lab.terminal._wording import bytes_text, device_shares, notes, seconds_text, sparkline

__all__ = [
    "JsonView",
    "LineView",
    "LiveView",
    "PipeConsole",
    "View",
    "bytes_text",
    "device_shares",
    "device_table",
    "devices_table",
    "explanation",
    "failure_text",
    "hardware_table",
    "links_table",
    "notes",
    "profile_table",
    "scaling_table",
    "seconds_text",
    "sparkline",
    "summary",
]
