"""How each system recovers when a worker is killed: time to the last result, what is lost, what runs twice."""
