"""Load base models, their chat templates and adapters."""
