"""llm-d's tree: its Dockerfile, versions, pins and wheel rules, read and never run."""
