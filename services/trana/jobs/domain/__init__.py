"""What a job is and what may become of it: pure values and rules, no I/O."""
