"""Whether TensorBoard's own reader finds in a run what metrics.jsonl holds:

    events.py RUN

RUN is a directory of `clipzoo train`. Needs `pip install tensorboard`. Every number of metrics.jsonl is looked for under
`train/` (steps) or `valid/` (evaluations) at its step; a difference beyond f32's is an error.
"""

import json
import math
import os
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = sys.argv[1]
events = EventAccumulator(os.path.join(run, "tensorboard"), size_guidance={"scalars": 0})
events.Reload()
found = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
looked = 0
with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as lines:
    for line in map(json.loads, lines):
        for key, number in line.items():
            if key == "step" or isinstance(number, bool) or not isinstance(number, (int, float)):
                continue
            tag = "valid/" + key.removeprefix("valid_") if key.startswith("valid_") else "train/" + key
            got = found.get(tag, {}).get(line["step"])
            if got is None or not math.isclose(got, number, rel_tol=1e-6, abs_tol=1e-30):
                sys.exit(f"step {line['step']}: metrics.jsonl has {key} {number}, the events have {tag} {got}")
            looked += 1
print(f"{looked} numbers under {len(found)} tags")
