"""Side-by-side timings against other libraries; each prints ratios from one run on one machine."""
