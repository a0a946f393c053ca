"""The simulator: the production decisions, on one clock, around stand-ins for what we do not own."""
