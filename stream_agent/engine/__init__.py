"""Who owns the state: respond(frame), then settle()."""
