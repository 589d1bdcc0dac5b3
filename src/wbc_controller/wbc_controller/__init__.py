"""Whole-body compliance controller: the last gate, and the only writer of joint commands."""
