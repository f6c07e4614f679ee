"""What a model costs when it runs: latency against another one, and memory."""
