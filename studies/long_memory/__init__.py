"""The long-memory task: linear recurrences against an LSTM, by time to convergence."""
