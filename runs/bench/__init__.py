"""`manage.py bench`: the numbers of contract v1 §5 and of the performance brief, on a server of its
own. Each scenario is a function in `scenarios.py`; `reference.py` has the numbers beside ours.
"""
