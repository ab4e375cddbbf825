"""The same echo through other task queues and through executor, side by side on one server in one run."""
