"""The command line: everything that is ``stream_agent X``."""
