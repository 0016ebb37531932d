"""Who starts when: pure decisions over what was seen, no I/O and no clock of its own."""
