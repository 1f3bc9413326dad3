"""One file per recorded experiment: what takes longer than a lesson may, or needs a quiet machine.

`make record` runs them and writes `data/records/`; `zoo_lessons.records` says how. An experiment
looks like this:

    @experiment("c35_training_speed", claims=["C35"], lesson="04", uses=["zoo_lessons.bench"])
    def training_speed() -> dict:
        ...
        return {
            "figures": {...},
            "verdicts": {
                "C35": Verdict("partly", ours="...", explanation="...", cell="04#What-it-costs")
            },
        }
"""
