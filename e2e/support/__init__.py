"""What the tests share: the cluster, as kubectl sees it, and what is kept of it when a test fails."""
