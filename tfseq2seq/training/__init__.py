"""Losses, schedules, callbacks, and the run that `fit` leaves behind."""
