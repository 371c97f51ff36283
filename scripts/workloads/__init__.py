"""What the example traces are about: a support desk, a coding assistant, a SaaS with plans."""
