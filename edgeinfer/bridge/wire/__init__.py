"""What crosses between processes: messages, addresses, credentials, jobs and traces."""
