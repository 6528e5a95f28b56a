"""What every part that talks to Kubernetes shares: how the API server is reached, and how log lines look."""
