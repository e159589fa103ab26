"""python -m serve.label: which tier each line of a file of prompts needs."""
