"""Fails unless two files hold the same within a stated tolerance.

agree.py pixels OURS THEIRS      in levels of 0 to 255: a mean of at most 0.8 and a maximum of at most 16 over all pictures
agree.py features OURS THEIRS    unit rows: every cosine over 0.9999
agree.py lowered OURS THEIRS     the same in a cheaper type than f32: every cosine over 0.9995
"""

import sys

import numpy
from open_clip.constants import OPENAI_DATASET_STD
from safetensors.numpy import load_file

MEAN, MOST, COSINES = 0.8, 16.0, {"features": 0.9999, "lowered": 0.9995}

what = sys.argv[1]
ours, theirs = (load_file(path) for path in sys.argv[2:])
if what == "pixels":
    levels = numpy.array(OPENAI_DATASET_STD, dtype="f4").reshape(3, 1, 1) * 255
    apart = numpy.abs(ours["pixels"] - theirs["pixels"]) * levels
    mean, most = apart.mean(), apart.max()
    print(f"pixels differ by {mean:.3f} levels of 255 on average and {most:.1f} at most ({MEAN} and {MOST:.0f} allowed)")
    agreed = mean <= MEAN and most <= MOST
else:
    pairs = [(name, (ours[name] * theirs[name]).sum(1).min()) for name in sorted(theirs)]
    print("least cosine: " + ", ".join(f"{value:.7f} {name}" for name, value in pairs) + f" (over {COSINES[what]} wanted)")
    agreed = all(value > COSINES[what] for _, value in pairs)
sys.exit(not agreed)
