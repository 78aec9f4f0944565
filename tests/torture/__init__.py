"""Real servers under load, killed, frozen and restarted by a seeded schedule, and what came of it.

    python -m tests.torture --minutes 10 --seed 7 --store redis --server uvicorn

Clients (`clients`) write down every request and answer, handlers (`applications`) every side
effect, the conductor (`chaos`) every blow. Afterwards `checker`, which knows nothing of raincheck
but its documented wire, reads these logs and says which promises were broken.
"""
