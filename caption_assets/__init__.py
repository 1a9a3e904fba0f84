"""Trustworthy captions for uploaded video: a Dagster platform with a ledger of every caption and every decision."""

__version__ = "0.1.0"
