"""From a chat to the token ids that a model is given, and from what it generates to a thought and a text."""
