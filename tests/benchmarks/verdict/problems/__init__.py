"""What the networks of the corpus learn: each problem draws as many fresh samples as one wants."""
