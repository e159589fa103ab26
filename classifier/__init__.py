"""Pointsman's scoring: the cheapest model tier whose answer will be good enough, with a calibrated confidence."""

from classifier.conversation import from_messages, from_row, from_text
from classifier.router import Router
from classifier.types import Decision, Prompt, Reason, Scores

__all__ = ["Decision", "Prompt", "Reason", "Router", "Scores", "from_messages", "from_row", "from_text"]
