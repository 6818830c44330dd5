"""Overfitted codecs: a small network is fitted to one picture, and its weights are the file."""
