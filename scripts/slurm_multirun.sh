#!/bin/sh
# A multirun as jobs of a Slurm cluster, one a trial; start it where sbatch is. It waits for the jobs and ends with the
# table; should it be cut off, start it again. Needs: pip install 'transformer[slurm]'. Name your own partition and limits.
exec transformer-train -m name=grid resume=true model.d_model=128,256 seed=1,2,3 \
    hydra/launcher=submitit_slurm \
    hydra.launcher.partition=gpu \
    hydra.launcher.gpus_per_node=1 \
    hydra.launcher.cpus_per_task=4 \
    hydra.launcher.mem_gb=16 \
    hydra.launcher.timeout_min=600
