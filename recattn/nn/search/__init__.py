"""Find a few events of a long history first, then attend to those; or answer from sums made in advance."""
