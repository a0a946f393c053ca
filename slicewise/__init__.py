"""The parts that every Slicewise program shares: the command line, the demo, and what it takes to be a process."""
