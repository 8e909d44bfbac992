"""Studies and benchmarks."""

if __name__ != "rlkit.experiments":
    raise ImportError("import rlkit.experiments, not experiments")
