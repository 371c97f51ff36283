"""What a replay reckons beyond prices: answers' lengths, the prompt cache, outages."""
