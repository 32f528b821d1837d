"""Weights from other toolkits."""
