"""A service that answers with the course's models: `python -m zoo_lessons.deploy.serving`.

    client -> load balancer -> model router -> replicas
                                   |
                                   +-> cache of frequent predictions (Redis)

| file | what it is |
|---|---|
| `settings.py` | every number that somebody may want to change, with its check |
| `schemas.py` | what a request looks like, and what is wrong with one that does not |
| `cache.py` | predictions kept in Redis, and what happens when Redis is gone |
| `routing.py` | which version answers whom: canary weights, judgement, rollback |
| `drift.py` | do today's inputs look like those that the model was tested on? |
| `normal.py` | the inputs that the detector compares with |
| `predictors.py` | the models behind one interface: a list of inputs in, a list of answers out |
| `metrics.py` | counters in Prometheus' format, and how to read them |
| `router.py` | checks a request, looks into the cache, asks a replica, counts |
| `ingress.py`, `replica.py` | the two kinds of actors that Ray Serve runs |
| `service.py` | starts and stops all of it on this machine |
| `background.py` | the same as a child process, for a notebook |
| `load.py` | users: an open loop that sends on time and measures honestly |
| `simulate.py` | a queue with a batching window, by arithmetic instead of by processes |

Ray Serve and Redis come with the extra `serve`. Importing this package needs neither.
"""
