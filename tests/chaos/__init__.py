"""Nothing lost, nothing twice: a cell in processes, faults by a seed, and a checker of what happened.

    make chaos                  20,000 evaluations
    make chaos SEED=7           the same programs and faults again

A run writes a history (history.py) and is judged by pure functions of it (checker/).
"""
