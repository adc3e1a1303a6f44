"""Doorways: each takes what a rule needs from a request, calls it, and renders what comes back. No rules live here."""
