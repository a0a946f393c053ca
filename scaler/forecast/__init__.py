"""Pure: what the past says about the demand at the time when a replica that is asked for now will serve."""
