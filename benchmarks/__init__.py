"""What measures: latency, throughput, memory and peers side by side. Asserts no time; imported by nothing else."""
