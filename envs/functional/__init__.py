"""Environments as functions of tensors."""
