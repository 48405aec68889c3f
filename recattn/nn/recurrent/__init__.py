"""Recurrent reading of a history: attention inside and on top of a GRU."""
