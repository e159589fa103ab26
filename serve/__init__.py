"""What answers: the HTTP server and the batch labeller. Imports nothing of training."""
