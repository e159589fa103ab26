"""Requests as people send them -> Prompt: what is scored, and what is only sized.

Scored is the last human turn; a short follow-up ("yes, do it") is scored together with the human turns it follows.
System prompts, tool lists, tool results and the assistant's turns are sized, never scored: they are the same on every
request of an application, and drown what the person asked. Does not judge difficulty and knows nothing of HTTP.
"""

from classifier.conversation.messages import from_messages, from_row, from_text

__all__ = ["from_messages", "from_row", "from_text"]
