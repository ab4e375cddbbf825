"""What `executor doctor` makes of what was collected: pure functions from plain data to findings.

`server` judges a cell, `scaling` the KEDA objects, `cluster` what surrounds them, `happenings` what went wrong
lately. Numbers with a `#` are issues of the project named, where somebody else has paid for the lesson.
"""
