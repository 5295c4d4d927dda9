"""Murmur's engine beside the embedded stores that a Python user could pick.

    python -m benchmarks.engines [--entries 1000000] [--runs 3] [--lsm] [-k fill] [--engines a,b]

Each engine runs each workload in a process of its own, one after the other, so that no engine's
memory, threads or caches are in another's figures; runs are interleaved (all engines do a workload
before any does the next), and every figure is a median over the runs.

    __main__.py    the command line
    schedule.py    which child does what, in which order and directory
    child.py       one process: opens an engine, runs workloads, prints figures as JSON
    workloads.py   db_bench's and YCSB's workloads
    data.py        keys, values, orders, and what an engine has to answer
    meter.py       clocks: throughput, sampled latencies, worst chunks
    process.py     memory, bytes written and page cache, from /proc
    engine.py      what an engine is to a workload, and the list of engines
    murmur_engine.py, log_structured.py, trees.py        the engines
    report.py      tables and ratios

Equal terms: a put has reached the operating system when it returns, and nothing waits for the disk
but in the rows that say so; a child that is killed proves it for each engine (`kill` in
workloads.py). All get the same write buffer and the same cache, filters of 10 bits, no compression.
Whatever is read is compared with what was written: an engine that answers wrongly has no figure.
"""
