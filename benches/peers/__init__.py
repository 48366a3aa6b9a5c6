"""Other runtimes that `benches/speed.py` compares with. Each `*_peer.py` is a worker: `python -m peers.torch_peer` in `benches/`, with the
environment variables of `compare.processes.environment`."""
