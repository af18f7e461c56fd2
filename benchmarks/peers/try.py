import sys

from benchmarks.peers.harness import run
from benchmarks.peers.systems import SYSTEMS

for spec in sys.argv[1:]:
    s, w, m, k, e = spec.split(":")
    r = run(SYSTEMS[s], w, m, int(k), int(e), int(int(e) * 0.3))
    print(r, f"{r.rate:,.0f}/s", flush=True)
