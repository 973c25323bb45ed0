"""A sweep of 200 points on a local Ray cluster of three nodes, of which one worker is killed and one node removed on the way.

The table must be that of a serial run: same points, same content hash, nothing half-written.

    pip install "pollux[ray]" && python ray_cluster.py
"""

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import pollux as px
import ray
from ray.cluster_utils import Cluster

MANIFEST = {
    "configs": ["norm16"],
    "memories": ["bench", "bandwidth:bytes=8"],
    "measure": ["causes"],
    "shards": 50,
    "work": [{"operation": "matmul", "m": list(range(80, 180, 10)), "n": list(range(80, 180, 10)), "k": 192}],
}


def shards(folder: Path) -> int:
    return len(list(folder.glob("shard-*")))


def kill_one_worker() -> int:
    """SIGKILL to a worker in the middle of a shard."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::_run_shard") and int(process.name) != os.getpid():
            os.kill(int(process.name), signal.SIGKILL)
            return int(process.name)
    return 0


def disturb(cluster: Cluster, victim: object, folder: Path, log: list[str]) -> None:
    while shards(folder) < 5:
        time.sleep(0.01)
    while not (killed := kill_one_worker()):
        time.sleep(0.01)
    log.append(f"worker {'killed' if killed else 'not found'} with {shards(folder)} shards done")
    while shards(folder) < 15:
        time.sleep(0.01)
    cluster.remove_node(victim, allow_graceful=False)
    log.append(f"node removed with {shards(folder)} shards done")


def main() -> None:
    out = Path(tempfile.mkdtemp())
    begin = time.monotonic()
    serial = px.sweep(MANIFEST, out / "serial", jobs=1)
    print(f"serial: {serial}, {time.monotonic() - begin:.1f} s")

    begin = time.monotonic()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    ray.init(address=cluster.address)
    print(f"cluster of {len(nodes)} nodes: {time.monotonic() - begin:.1f} s")
    log: list[str] = []
    thread = threading.Thread(target=disturb, args=(cluster, nodes[2], out / "ray", log), daemon=True)
    thread.start()
    begin = time.monotonic()
    done = px.sweep(MANIFEST, out / "ray", ray=True)
    print(f"Ray: {done}, {time.monotonic() - begin:.1f} s")
    thread.join(timeout=10)
    print("\n".join(log))
    assert len(log) == 2, "the sweep was over before it was disturbed"
    assert done.content_sha256 == serial.content_sha256 and done.table["id"] == serial.table["id"]
    assert not list((out / "ray").glob(".*")), "nothing half-written is left"
    print(f"{done.table.num_rows} points, same content: {done.content_sha256}")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
