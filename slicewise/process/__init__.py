"""What every program needs to be a process: logs, shutdown, the Kubernetes client and watches."""
