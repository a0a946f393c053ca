"""MIG packing lab: streams of slice demands against a fleet, placed by the extender's own ledger and scorers."""
