"""Linear recurrences: parallel over time, and one step a frame."""

from stream_agent.network.recurrence.cells import Cell, CELLS, GilrCell
from stream_agent.network.recurrence.scan import kernel_for, linear_recurrence

__all__ = ['Cell', 'CELLS', 'GilrCell', 'kernel_for', 'linear_recurrence']
