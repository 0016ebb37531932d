"""What Trana costs, side by side with what one would use instead. Ratios count; seconds are this machine's."""
