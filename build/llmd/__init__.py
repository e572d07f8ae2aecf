"""llm-d's tree: Dockerfile, versions, pins and wheel rules. They are read and never run."""
